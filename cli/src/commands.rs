//! The commands, one file each.

use clap::Subcommand;

use crate::exit::Failure;

mod bake;
mod build;
mod capture;
mod diff;
mod host;
mod inspect;
mod job;
mod key;
mod new;
mod run;
mod send;
mod session;
mod status;
mod store;

#[derive(Subcommand)]
pub(crate) enum Command {
    New(new::New),
    Build(build::Build),
    Inspect(inspect::Inspect),
    Capture(capture::Capture),
    Diff(diff::Diff),
    Bake(bake::Bake),
    Run(run::Run),
    Send(send::Send),
    Session(session::SessionCommand),
    Job(job::JobCommand),
    Host(host::Host),
    Key(key::Key),
    Status(status::Status),
    Store(store::StoreCommand),
}

impl Command {
    /// Carries the command out, to its end.
    pub(crate) fn run(self) -> Result<(), Failure> {
        if let Command::Host(command) = self {
            return command.run();
        }
        crate::logging::for_client();
        match self {
            Command::New(command) => command.run(),
            Command::Build(command) => command.run(),
            Command::Inspect(command) => command.run(),
            Command::Capture(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Bake(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Send(command) => command.run(),
            Command::Session(command) => command.run(),
            Command::Job(command) => command.run(),
            Command::Host(command) => command.run(),
            Command::Key(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Store(command) => command.run(),
        }
    }
}
