//! `spore job`: runs that a host keeps.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value as Json;
use spore_client::{Bundle, DynamicJob, Host, JobChanged, JobError, JobId, Persist};

use crate::arguments::{self, BUNDLE_LIMITS, Trust};
use crate::connect::{connect, runtime};
use crate::exit::Failure;
use crate::image::saved_before;
use crate::output::{self, size};

mod list;
mod moves;
mod told;

/// Time in which a job is to reach a checkpoint, unless another is given.
const WITHIN: &str = "10s";

/// Ask for jobs of a host: list, watch, pause, resume, save, open, move, settle, adopt, cancel, result
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  id=$(spore run steps.spore pi '[5000000000]' --job --on board.local)
  spore job watch $id --on board.local
  spore job move $id --from board.local --to tower.local
  spore job result $id --on tower.local

A job is one run of a resumable callable, which a host keeps until its result was taken.")]
pub(crate) struct JobCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Ls(list::Ls),
    Watch(told::Watch),
    Pause(Pause),
    Resume(Resume),
    Save(Save),
    Open(Open),
    Move(moves::Move),
    Settle(moves::Settle),
    Cancel(Cancel),
    Result(told::Result),
    Adopt(moves::Adopt),
}

impl JobCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Ls(ls) => ls.run(),
            Verb::Watch(watch) => watch.run(),
            Verb::Pause(pause) => pause.run(),
            Verb::Resume(resume) => resume.run(),
            Verb::Save(save) => save.run(),
            Verb::Open(open) => open.run(),
            Verb::Move(it) => it.run(),
            Verb::Settle(settle) => settle.run(),
            Verb::Cancel(cancel) => cancel.run(),
            Verb::Result(result) => result.run(),
            Verb::Adopt(adopt) => adopt.run(),
        }
    }
}

/// Where a job is.
#[derive(clap::Args)]
struct Place {
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    on: String,
    #[command(flatten)]
    trust: Trust,
}

impl Place {
    /// Does something on the host, in a runtime of its own.
    fn with<T>(&self, ask: impl AsyncFnOnce(&Host) -> Result<T, Failure>) -> Result<T, Failure> {
        runtime()?.block_on(async {
            let host = connect(&self.on, self.trust).await?;
            let answered = ask(&host).await;
            host.close().await;
            answered
        })
    }

    /// Asks something of a job.
    fn with_job<T>(
        &self,
        id: JobId,
        ask: impl AsyncFnOnce(&DynamicJob) -> Result<T, JobError>,
    ) -> Result<T, Failure> {
        self.with(async |host| {
            let job = host.job(id).await?;
            Ok(ask(&job).await?)
        })
    }
}

/// Stop a job at its next checkpoint
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job pause 00112233445566778899aabbccddeeff --on board.local

A job that reaches no checkpoint in time goes on, and the command says so.")]
struct Pause {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
    /// Time in which it is to reach a checkpoint
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = WITHIN)]
    within: Duration,
}

/// Let a paused job go on
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job resume 00112233445566778899aabbccddeeff --on board.local")]
struct Resume {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
}

/// Save a job, as it is at its next checkpoint, as a bundle
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job save 00112233445566778899aabbccddeeff -o half.spore --on board.local
  spore job open half.spore --on another.local

The job goes on. What is opened from the file is another job, with an id of its own. It emits what
comes next: items that were emitted before and that nobody has taken stay with this one. `spore job
move` takes them along.")]
struct Save {
    /// The job
    job: JobId,
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Time in which it is to reach a checkpoint
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = WITHIN)]
    within: Duration,
}

/// Go on with a saved job as a new one, and print its id
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job open half.spore --on another.local")]
struct Open {
    /// What `spore job save` has written
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Let it wait for `spore job resume`
    #[arg(long)]
    paused: bool,
    /// How often the host makes the job durable: off, or a time. By default as it is configured
    #[arg(long, value_name = "off|TIME", value_parser = arguments::persist)]
    persist: Option<Persist>,
}

/// End a job, wherever it is
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job cancel 00112233445566778899aabbccddeeff --on board.local
  spore job result 00112233445566778899aabbccddeeff --on board.local

That it was cancelled is then its result, which the host keeps until it was taken.")]
struct Cancel {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
}

impl Pause {
    fn run(self) -> Result<(), Failure> {
        let pause = async |job: &DynamicJob| job.pause(self.within).await;
        self.place.with_job(self.job, pause).map(tell)
    }
}

impl Resume {
    fn run(self) -> Result<(), Failure> {
        let resume = async |job: &DynamicJob| job.resume().await;
        self.place.with_job(self.job, resume).map(tell)
    }
}

impl Save {
    fn run(self) -> Result<(), Failure> {
        output::check_writable(&self.output)?;
        let save = async |job: &DynamicJob| {
            if let Some(saved) = saved_before(&self.output) {
                job.knows(&saved);
            }
            let bundle = job.save(self.within).await?;
            Ok((bundle, job.emits_items()))
        };
        let (bundle, emits_items) = self.place.with_job(self.job, save)?;
        let file = bundle.inner().encode();
        output::write_file(&self.output, &file)?;
        let image = bundle.inner().image();
        // The file holds the run, which has them behind it.
        let next = image
            .and_then(|image| image.index().run)
            .map_or(0, |run| run.items);
        let items = match emits_items {
            true => format!(
                "  items   from number {next} on; those before it that nobody has taken stay with the job\n"
            ),
            false => String::new(),
        };
        output::print(&format!(
            "{}\n  bundle  {}\n  size    {}, of {} of memory that differ from a fresh instance\n{items}",
            self.output.display(),
            bundle.id(),
            size(file.len() as u64),
            size(image.map_or(0, |image| image.changed_bytes())),
        ))
    }
}

impl Open {
    fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::open_with(&self.file, &BUNDLE_LIMITS)?;
        let image = bundle.inner().image();
        if image.is_none_or(|image| image.index().run.is_none()) {
            let what = format!("{} holds no run", self.file.display());
            let failure = Failure::usage(what);
            return Err(failure.help("a run is in a file that `spore job save` has written"));
        }
        let id = self.place.with(async |host| {
            let opening = host.open_job(&bundle).paused(self.paused);
            let job = opening.persist(self.persist.unwrap_or_default()).await?;
            Ok(job.id())
        })?;
        output::print(&format!("{id}\n"))
    }
}

impl Cancel {
    fn run(self) -> Result<(), Failure> {
        let cancel = async |job: &DynamicJob| job.cancel().await;
        self.place.with_job(self.job, cancel).map(tell)
    }
}

/// Says how a job is now: a command that had nothing to do is told by that from one that had.
fn tell(changed: JobChanged) {
    output::to_stderr(format!("the job is {}\n", list::state(changed.state)).as_bytes());
}

/// The guest's own error of a job, as a failure.
fn own_error(callable: &str) -> impl FnOnce(Json) -> Failure {
    move |error| Failure::guest_error(callable, error)
}
