//! `spore session move`, and what is left to do when a move broke off.

use spore_client::{
    CallError, Host, MoveHost, Origin, RefusalCode, Refused, Session, SessionError, SessionId,
    SessionMoveError, SessionMoveStage, SessionSettled,
};
use spore_host::HeldFrom;

use super::local::LocalSession;
use super::{Directories, Place, on_host, open_here, open_on, with_host};
use crate::arguments::{self, Trust};
use crate::connect::{connect, connect_known, home, runtime};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::{hint, output};

/// This machine, among hosts.
const HERE: &str = "here";

/// Move a session to another host, and print its id there
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session move 00112233445566778899aabbccddeeff --from board.local --to another.local

It is saved, opened and held there, given up where it was if no call came in between, and goes on
there; otherwise it stays. At no time can it be called at both. Both must serve your key.

From host to host its idle time and limits go with it, and are lowered to those of the host that it
goes to. A session here has none, and one that goes from here gets those of the host.")]
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
            "if its move broke off, run this once both hosts are there: {}",
            hint::shell(words)
        ))
}

fn is(error: &SessionError, code: RefusalCode) -> bool {
    matches!(error, CallError::Refused(refused) if refused.code == code)
}

impl Move {
    pub(super) fn run(self) -> Result<(), Failure> {
        let from = self.from.as_deref().and_then(remote);
        let to = remote(&self.to);
        self.directories.check_here(to)?;
        // Locked until it is there. Who waits for the lock can be interrupted as ever.
        let local = match (from, to) {
            (None, None) => return Err(Failure::usage("the session is here already")),
            (None, Some(_)) => Some(LocalSession::find(&home()?, self.session)?),
            (Some(_), _) => None,
        };
        let id = runtime()?.block_on(async {
            let mut signals = Signals::catch()?;
            tokio::select! {
                moved = self.moved(local) => moved,
                _ = signals.next() => {
                    let from = self.from.as_deref().unwrap_or(HERE);
                    let what = "interrupted; the move may be half done";
                    let failure = Failure::new(Exit::Interrupted, what);
                    Err(half_done(self.session, from, &self.to, failure))
                }
            }
        })?;
        output::print(&format!("{id}\n"))
    }

    async fn moved(&self, local: Option<LocalSession>) -> Result<SessionId, Failure> {
        let to = remote(&self.to);
        match (self.from.as_deref().and_then(remote), to) {
            (None, None) => Err(Failure::usage("the session is here already")),
            (None, Some(to)) => {
                let local = local.expect("it was found before");
                with_host(connect_known(to).await?, async |host| {
                    self.sent(local, host, to).await
                })
                .await
            }
            (Some(from), to) => {
                let host = connect(from, self.trust).await?;
                with_host(host, async |host| {
                    let session = host.session(self.session).await.map_err(|error| {
                        let gone = is(&error, RefusalCode::UnknownSession);
                        let failure = Failure::from(error);
                        match gone {
                            true => half_done(self.session, from, &self.to, failure),
                            false => failure,
                        }
                    })?;
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
        let name = |stage: SessionMoveStage| match stage.host() {
            MoveHost::Source => from,
            MoveHost::Target => &self.to,
        };
        match error {
            SessionMoveError::NotMoved { stage, source } => {
                let about = format!("the session was not moved: {} was to {stage}", name(stage));
                if is(&source, RefusalCode::MoveUnderWay) {
                    let what = format!("{} holds it already", self.to);
                    let failure = Failure::new(Exit::Refused, what).about(&about);
                    return half_done(self.session, from, &self.to, failure);
                }
                let changed = is(&source, RefusalCode::SessionChanged);
                let failure = Failure::from(source).about(&about);
                match changed {
                    true => failure.help("a call came in between: move it again"),
                    false => failure,
                }
            }
            SessionMoveError::HalfDone { stage, source, .. } => {
                let about = format!("the move is half done: {} was to {stage}", name(stage));
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
        let there = open_on(host, &bundle, None, Some(from)).await;
        let there = there.map_err(|error| {
            Failure::from(error).about("the session was not moved: it is here, as it was")
        })?;
        let half = |failure| half_done(self.session, HERE, to, failure);
        let copy = Origin {
            session: there.id(),
            host: host.key().await.map_err(|error| half(error.into()))?,
        };
        local.give_up(copy).map_err(half)?;
        let taken = host.take_over_session(there.id()).await;
        taken.map_err(|error| {
            half(Failure::from(error).about("the session was given up here, and is held there"))
        })?;
        local.close()?;
        Ok(there.id())
    }

    /// Moves a session of a host here.
    async fn fetched(
        &self,
        host: &Host,
        session: &Session,
        from: &str,
    ) -> Result<SessionId, Failure> {
        let key = host.key().await?.expect("one at the other end has a key");
        let origin = Origin {
            session: self.session,
            host: Some(key),
        };
        if let Some((held, _)) = held_here(origin)?.first() {
            let what = format!("it is held here already, as {held}: its move has begun");
            let failure = Failure::new(Exit::Refused, what);
            return Err(half_done(self.session, from, HERE, failure));
        }
        let saved = session.save().await?;
        let held = HeldFrom {
            session: self.session,
            host: key,
            bundle: saved.id(),
        };
        let id = open_here(&saved, &self.directories, Some(held)).await?;
        match given_up_to_here(host, held, id).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(Failure::new(
                    Exit::Refused,
                    "the session was not moved: it has changed",
                )
                .help("a call came in between: move it again"));
            }
            Err(error) => {
                let failure = error.about("the move is half done: the session is held here");
                return Err(half_done(self.session, from, HERE, failure));
            }
        }
        Ok(id)
    }
}

/// Has a host give a session up to what is held here, which is taken over then. Says whether it did;
/// otherwise what is held here is closed.
async fn given_up_to_here(host: &Host, held: HeldFrom, id: SessionId) -> Result<bool, Failure> {
    let to = Origin {
        session: id,
        host: None,
    };
    let home = home()?;
    // What cannot be read is nothing that a session may be given up to.
    LocalSession::find(&home, id)?.check_readable()?;
    match host.give_up_session(held.session, held.bundle, to).await {
        Ok(()) => {
            LocalSession::find(&home, id)?.take_over()?;
            // It is here; that it is listed there still is all that may be left.
            let _ = host.close_session(held.session, None).await;
            Ok(true)
        }
        Err(error)
            if is(&error, RefusalCode::SessionChanged)
                || is(&error, RefusalCode::SessionHeld)
                || is(&error, RefusalCode::SessionElsewhere) =>
        {
            // Another command may have closed it meanwhile, or taken it over.
            if LocalSession::exists(&home, id)? {
                let local = LocalSession::find(&home, id)?;
                if local.shelved()?.held.is_some() {
                    local.close()?;
                }
            }
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Closes what a host holds that comes from there.
async fn drop_held(host: &Host, from: Origin) -> Result<(), Failure> {
    for held in host.sessions().await? {
        if held.held != Some(from) {
            continue;
        }
        match host.close_session(held.session, None).await {
            Err(error) if !is(&error, RefusalCode::UnknownSession) => return Err(error.into()),
            _ => {}
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
            && let Some(held) = LocalSession::find(&home, listed.session)?.shelved()?.held
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
        let home = home()?;
        // Nobody moves it meanwhile.
        let local = match LocalSession::exists(&home, self.session)? {
            true => LocalSession::find(&home, self.session)?,
            false => return Err(self.nowhere()),
        };
        let Some(gone) = local.shelved()?.gave_up else {
            drop_held(target, from).await?;
            return Ok((self.session, HERE));
        };
        let key = target.key().await?;
        let sessions = target.sessions().await?;
        let there = sessions.iter().any(|it| it.session == gone.session);
        if gone.host != key || !there {
            let failure = crate::refusal::of_move(RefusalCode::SessionElsewhere, gone);
            return Err(failure);
        }
        target.take_over_session(gone.session).await?;
        local.close()?;
        Ok((gone.session, to))
    }

    /// Of a session that was to come here.
    async fn settled_here<'a>(
        &self,
        source: &Host,
        from: &'a str,
    ) -> Result<(SessionId, &'a str), Failure> {
        let origin = Origin {
            session: self.session,
            host: source.key().await?,
        };
        let gave_up = async || {
            let sessions = source.sessions().await?;
            let there = sessions.iter().find(|it| it.session == self.session);
            let there = there.ok_or_else(|| self.nowhere())?;
            if let (None, Some(code)) = (there.gave_up, there.unavailable) {
                let refused = Refused::new(code, there.why.clone());
                return Err(SessionError::Refused(refused).into());
            }
            Ok::<_, Failure>(there.gave_up)
        };
        gave_up().await?;
        for (id, held) in held_here(origin)? {
            if given_up_to_here(source, held, id).await? {
                return Ok((id, HERE));
            }
        }
        match gave_up().await? {
            None => Ok((self.session, from)),
            // It was taken over here, and is listed there still.
            Some(gone) if gone.host.is_none() && LocalSession::exists(&home()?, gone.session)? => {
                source.close_session(self.session, None).await?;
                Ok((gone.session, HERE))
            }
            Some(gone) => Err(crate::refusal::of_move(RefusalCode::SessionElsewhere, gone)),
        }
    }
}

impl Settle {
    /// The one that it was to move from does not have it.
    fn nowhere(&self) -> Failure {
        let (session, from, to) = (self.session, &self.from, &self.to);
        let what = format!("{from} does not have session {session}, nor what it was given up to");
        Failure::new(Exit::Refused, what)
            .help(format!(
                "a move that came to its end has left it at {to}, under an id of its own; or it was \
                 closed: see `spore session ls` there"
            ))
            .help(format!(
                "if {to} still holds a copy, and the session goes on elsewhere, close the copy: spore \
                 session close -h; if it is all that there is of it: spore session adopt -h"
            ))
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
        let held = match &self.place.on {
            None => LocalSession::find(&home()?, id)?.shelved()?.held.is_some(),
            Some(on) => runtime()?.block_on(on_host(on, self.place.trust, async |host| {
                let sessions = host.sessions().await?;
                Ok(sessions
                    .iter()
                    .any(|it| it.session == id && it.held.is_some()))
            }))?,
        };
        if !held {
            let what = "no move has left a session of this id held there: nothing was done";
            return Err(Failure::new(Exit::Refused, what));
        }
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
