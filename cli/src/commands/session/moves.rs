//! `spore session move`, and what is left to do when a move broke off.

use spore_client::{
    CallError, Host, Origin, RefusalCode, Session, SessionError, SessionId, SessionMoveError,
    SessionSettled,
};
use spore_host::HeldFrom;

use super::local::LocalSession;
use super::{Directories, Place, on_host, open_here, open_on, with_host};
use crate::arguments::{self, Trust};
use crate::connect::{connect, connect_known, home, runtime};
use crate::exit::{Exit, Failure};
use crate::{hint, output};

/// This machine, among hosts.
const HERE: &str = "here";

/// Move a session to another host, and print its id there
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session move 00112233445566778899aabbccddeeff --from board.local --to another.local

It is saved, opened and held there, closed where it was if no call came in between, and goes on
there; otherwise it stays. At no time can it be called at both. Both must serve your key.")]
pub(super) struct Move {
    /// The session
    session: SessionId,
    /// The host that has the session. Without it, this machine
    // Other verbs have it as --on.
    #[arg(long, value_name = "HOST", visible_alias = "on", value_parser = arguments::host)]
    from: Option<String>,
    /// The host that it goes to; `here` for this machine
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    to: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    directories: Directories,
}

/// End a move that broke off, one way or the other, and print the session's id and host
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session settle 00112233445566778899aabbccddeeff --from board.local --to another.local

Both hosts must be there. The session can be called at the one that is printed.")]
pub(super) struct Settle {
    /// The session: its id where it was when the move began
    session: SessionId,
    /// The host that had the session when the move began; `here` for this machine
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    from: String,
    /// The host that it goes to; `here` for this machine
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    to: String,
}

/// Let a session be called that a move has left held, because the other host never comes back
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session adopt 00112233445566778899aabbccddeeff --on another.local --force

Try `spore session settle` first. If the other host comes back with the session after all, it is
there as well, as it was when the move began.")]
pub(super) struct Adopt {
    /// The session: its id where it is held
    session: SessionId,
    #[command(flatten)]
    place: Place,
    /// You know that the other host does not have the session, and never will
    #[arg(long)]
    force: bool,
}

/// The host of this name; nothing for this machine.
fn remote(name: &str) -> Option<&str> {
    (name != HERE).then_some(name)
}

/// Says how to end a move that broke off.
fn half_done(session: SessionId, from: &str, to: &str, failure: Failure) -> Failure {
    let session = session.to_string();
    let words = [
        "spore", "session", "settle", &session, "--from", from, "--to", to,
    ];
    failure
        .help("it can be called at one of the two at most")
        .help(format!(
            "once both hosts are there, run: {}",
            hint::shell(words)
        ))
}

fn is(error: &SessionError, code: RefusalCode) -> bool {
    matches!(error, CallError::Refused(refused) if refused.code == code)
}

impl Move {
    pub(super) fn run(self) -> Result<(), Failure> {
        let id = runtime()?.block_on(self.moved())?;
        output::print(&format!("{id}\n"))
    }

    async fn moved(&self) -> Result<SessionId, Failure> {
        let from = self.from.as_deref().and_then(remote);
        let to = remote(&self.to);
        self.directories.check_here(to)?;
        match (from, to) {
            (None, None) => Err(Failure::usage("the session is here already")),
            (None, Some(to)) => {
                // Locked until it is there.
                let local = LocalSession::find(&home()?, self.session)?;
                with_host(connect_known(to).await?, async |host| {
                    self.sent(local, host, to).await
                })
                .await
            }
            (Some(from), to) => {
                let host = connect(from, self.trust).await?;
                with_host(host, async |host| {
                    let session = host.session(self.session).await?;
                    match to {
                        Some(to) => {
                            with_host(connect_known(to).await?, async |other| {
                                let moved = session.move_to(other).await;
                                Ok(moved.map_err(|error| self.not_moved(error, from))?.id())
                            })
                            .await
                        }
                        None => self.fetched(host, &session, from).await,
                    }
                })
                .await
            }
        }
    }

    fn not_moved(&self, error: SessionMoveError, from: &str) -> Failure {
        match error {
            SessionMoveError::NotMoved { stage, source } => {
                let under_way = is(&source, RefusalCode::MoveUnderWay);
                let about = format!("the session was not moved: {stage}");
                let failure = match source {
                    CallError::Refused(refused) if under_way => {
                        Failure::new(Exit::Refused, refused.to_string())
                    }
                    source => Failure::from(source),
                };
                let failure = failure.about(&about);
                match under_way {
                    true => half_done(self.session, from, &self.to, failure),
                    false => failure,
                }
            }
            SessionMoveError::HalfDone { stage, source, .. } => {
                let about = format!("the move is half done: {stage}");
                let failure = Failure::from(source).about(&about);
                half_done(self.session, from, &self.to, failure)
            }
            error => Failure::of(Exit::Local, &error),
        }
    }

    /// Moves a session from here to a host.
    async fn sent(&self, local: LocalSession, host: &Host, to: &str) -> Result<SessionId, Failure> {
        let from = Origin {
            session: self.session,
            host: None,
        };
        let bundle = local.bundle()?;
        // It is here, and nobody else moves it: what is held there is of no use.
        drop_held(host, from).await?;
        let there = open_on(host, &bundle, None, Some(from)).await?.id();
        local.close()?;
        let taken = host.take_over_session(there).await;
        taken.map_err(|error| {
            let failure = Failure::from(error).about("the session is there, and held");
            half_done(self.session, HERE, to, failure)
        })?;
        Ok(there)
    }

    /// Moves a session of a host here.
    async fn fetched(
        &self,
        host: &Host,
        session: &Session,
        from: &str,
    ) -> Result<SessionId, Failure> {
        let host = host.key().await?.expect("one at the other end has a key");
        let origin = Origin {
            session: self.session,
            host: Some(host),
        };
        if let Some((held, _)) = held_here(origin)?.first() {
            let what = format!("it is held here already, as {held}: its move has begun");
            let failure = Failure::new(Exit::Refused, what);
            return Err(half_done(self.session, from, HERE, failure));
        }
        let saved = session.save().await?;
        let held = HeldFrom {
            session: self.session,
            host,
            bundle: saved.id(),
        };
        let id = open_here(&saved, &self.directories, Some(held)).await?;
        match session.close_unchanged(&saved).await {
            Ok(()) => {}
            // No other answer says that it goes on where it was.
            Err(error) if is(&error, RefusalCode::SessionChanged) => {
                LocalSession::find(&home()?, id)?.close()?;
                return Err(Failure::from(error).about("the session was not moved"));
            }
            Err(error) => {
                let failure = Failure::from(error).about("what it was is here, and held");
                return Err(half_done(self.session, from, HERE, failure));
            }
        }
        LocalSession::find(&home()?, id)?.take_over()?;
        Ok(id)
    }
}

/// Closes what a host holds that comes from there.
async fn drop_held(host: &Host, from: Origin) -> Result<(), Failure> {
    for held in host.sessions().await? {
        if held.held == Some(from) {
            host.close_session(held.session, None).await?;
        }
    }
    Ok(())
}

/// Sessions that are held here and come from there, with what they came as.
fn held_here(from: Origin) -> Result<Vec<(SessionId, HeldFrom)>, Failure> {
    let home = home()?;
    let mut found = Vec::new();
    for listed in LocalSession::list(&home)? {
        if listed.held == Some(from)
            && let Some(held) = LocalSession::find(&home, listed.session)?.held()?
        {
            found.push((listed.session, held));
        }
    }
    Ok(found)
}

impl Settle {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (id, host) = runtime()?.block_on(self.settled())?;
        output::print(&format!("{id} {host}\n"))
    }

    /// The session, and the host that has it.
    async fn settled(&self) -> Result<(SessionId, &str), Failure> {
        match (remote(&self.from), remote(&self.to)) {
            (None, None) => Err(Failure::usage("a move is from one host to another")),
            (Some(from), Some(to)) => {
                with_host(connect_known(from).await?, async |source| {
                    with_host(connect_known(to).await?, async |target| {
                        match source.settle_session(self.session, target).await {
                            Ok(SessionSettled::AtTarget(there)) => Ok((there, to)),
                            Ok(_) => Ok((self.session, from)),
                            Err(error) => Err(self.unsettled(error)),
                        }
                    })
                    .await
                })
                .await
            }
            (None, Some(to)) => {
                with_host(connect_known(to).await?, async |target| {
                    self.settled_from_here(target, to).await
                })
                .await
            }
            (Some(from), None) => {
                with_host(connect_known(from).await?, async |source| {
                    self.settled_here(source, from).await
                })
                .await
            }
        }
    }

    /// Of a session that was to go from here.
    async fn settled_from_here<'a>(
        &self,
        target: &Host,
        to: &'a str,
    ) -> Result<(SessionId, &'a str), Failure> {
        let from = Origin {
            session: self.session,
            host: None,
        };
        if LocalSession::exists(&home()?, self.session)? {
            drop_held(target, from).await?;
            return Ok((self.session, HERE));
        }
        let sessions = target.sessions().await?;
        let Some(held) = sessions.iter().find(|it| it.held == Some(from)) else {
            return Err(self.nowhere());
        };
        target.take_over_session(held.session).await?;
        Ok((held.session, to))
    }

    /// Of a session that was to come here.
    async fn settled_here<'a>(
        &self,
        source: &Host,
        from: &'a str,
    ) -> Result<(SessionId, &'a str), Failure> {
        let home = home()?;
        let there = source.sessions().await?;
        let there = there.iter().find(|it| it.session == self.session);
        let origin = Origin {
            session: self.session,
            host: source.key().await?,
        };
        for (id, held) in held_here(origin)? {
            let gone = match source.close_session(self.session, Some(held.bundle)).await {
                Ok(()) => true,
                Err(error) if is(&error, RefusalCode::UnknownSession) => true,
                Err(error) if is(&error, RefusalCode::SessionChanged) => false,
                Err(error) => return Err(error.into()),
            };
            let local = LocalSession::find(&home, id)?;
            if gone {
                local.take_over()?;
                return Ok((id, HERE));
            }
            local.close()?;
        }
        match there {
            Some(_) => Ok((self.session, from)),
            None => Err(self.nowhere()),
        }
    }
}

impl Settle {
    /// Neither host has it, as far as they tell.
    fn nowhere(&self) -> Failure {
        let what = format!("neither has session {}, nor holds it", self.session);
        Failure::new(Exit::Refused, what)
            .help("it was closed, or has moved, under an id of its own: `spore session ls` on both")
    }

    fn unsettled(&self, error: SessionError) -> Failure {
        match is(&error, RefusalCode::UnknownSession) {
            true => self.nowhere(),
            false => error.into(),
        }
    }
}

impl Adopt {
    pub(super) fn run(self) -> Result<(), Failure> {
        let id = self.session;
        if !self.force {
            let words = ["spore", "session", "adopt", &id.to_string()].map(str::to_owned);
            let again = format!("{}{} --force", words.join(" "), self.place.on_option());
            return Err(Failure::usage(
                "nothing was done: if the other host of the move still has the session, or comes \
                 back with it, it is on both from then on, and what is done at one is not at the other",
            )
            .help("first try to end the move: spore session settle SESSION --from HOST --to HOST")
            .help(format!("if the other host never comes back, run: {again}")));
        }
        match &self.place.on {
            None => LocalSession::find(&home()?, id)?.take_over()?,
            Some(on) => runtime()?.block_on(on_host(on, self.place.trust, async |host| {
                Ok(host.take_over_session(id).await?)
            }))?,
        }
        output::to_stderr(b"the session is this host's from now on\n");
        Ok(())
    }
}
