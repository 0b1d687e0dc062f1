//! Moves of sessions from one host to another, carried by this program.
//!
//! The session is saved at its source; what was saved is opened at the target, kept there and held;
//! the source gives the session up to just that copy, if it is still what was saved; and the target
//! lets it be called. So it can be called at one of them at most, and is on one at least:
//! `docs/PROTOCOL.md`.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use spore_transport::message::Refused;
use spore_transport::session::{Origin, SessionInfo};
use spore_transport::{RefusalCode, SessionId};

use super::{Session, SessionError, bundle_id};
use crate::error::CallError;
use crate::host::{Host, available};
use crate::insist::insist;
use crate::limits::CallLimits;
use crate::moving::MoveHost;

/// Hears how far a move is.
type Told = Box<dyn FnMut(SessionMoveStage) + Send>;

/// A session that is to be moved: await it for the session at the other host.
///
/// Not cancel-safe: a dropped future may leave the move half done.
#[must_use = "a session moves when this is awaited"]
pub struct MovingSession {
    session: Session,
    other: Host,
    told: Told,
}

/// What of a session's move is done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SessionMoveStage {
    /// It was saved, and this program has what was saved
    Saved,
    /// The target has it durably, and holds it
    Arrived,
    /// The source has durably given it up
    GivenUp,
    /// It can be called at the target
    TakenOver,
    /// The source has forgotten it
    Forgotten,
}

impl SessionMoveStage {
    /// The host that brings a move so far.
    pub fn host(self) -> MoveHost {
        match self {
            SessionMoveStage::Saved | SessionMoveStage::GivenUp | SessionMoveStage::Forgotten => {
                MoveHost::Source
            }
            SessionMoveStage::Arrived | SessionMoveStage::TakenOver => MoveHost::Target,
        }
    }
}

impl fmt::Display for SessionMoveStage {
    /// What its host has to do for it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionMoveStage::Saved => "save the session",
            SessionMoveStage::Arrived => "take the session in",
            SessionMoveStage::GivenUp => "give the session up",
            SessionMoveStage::TakenOver => "let the session be called",
            SessionMoveStage::Forgotten => "forget the session",
        })
    }
}

/// Why a session was not moved, or not to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionMoveError {
    /// It is where it was, and can be called there. If it was the target that was lost, it may hold
    /// a copy: [`Host::settle_session`] ends that.
    #[error("the session was not moved: the {} was to {stage}", stage.host())]
    NotMoved {
        /// How far it did not come
        stage: SessionMoveStage,
        /// Why it did not
        #[source]
        source: SessionError,
    },
    /// A host was lost when the move had begun. The target holds the session, and the source may have
    /// it as well: it can be called at one of them at most. [`Host::settle_session`] finds out, and
    /// ends the move.
    #[error("the move is half done: the {} was to {stage}", stage.host())]
    HalfDone {
        /// What it is at the target
        there: SessionId,
        /// What was not answered
        stage: SessionMoveStage,
        /// Why it was not
        #[source]
        source: SessionError,
    },
}

/// Which host has a session whose move was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionSettled {
    /// The one that it was to move from, as it was
    AtSource,
    /// The one that it was to move to, as this
    AtTarget(SessionId),
}

impl MovingSession {
    pub(super) fn new(session: Session, other: Host) -> MovingSession {
        MovingSession {
            session,
            other,
            told: Box::new(|_| {}),
        }
    }

    /// Calls this each time that the move has come further, between one step and the next.
    pub fn on_stage(mut self, told: impl FnMut(SessionMoveStage) + Send + 'static) -> Self {
        self.told = Box::new(told);
        self
    }

    async fn moved(self) -> Result<Session, SessionMoveError> {
        let MovingSession {
            session,
            other,
            mut told,
        } = self;
        let not_moved = |stage| move |source| SessionMoveError::NotMoved { stage, source };
        let source = &session.host;
        let host = insist!(source.key()).map_err(not_moved(SessionMoveStage::Saved))?;
        let from = Origin {
            session: session.id,
            host,
        };
        // A copy that another move holds there may be all that there is, once that goes on.
        let held = held_of(&other, from).await;
        let held = held.map_err(not_moved(SessionMoveStage::Arrived))?;
        if !held.is_empty() {
            let under_way = Refused::new(RefusalCode::MoveUnderWay, "the target holds it already");
            return Err(SessionMoveError::NotMoved {
                stage: SessionMoveStage::Arrived,
                source: CallError::Refused(under_way),
            });
        }
        let saved = insist!(session.save()).map_err(not_moved(SessionMoveStage::Saved))?;
        let terms = insist!(terms_of(source, session.id));
        let (limits, idle) = terms.map_err(not_moved(SessionMoveStage::Saved))?;
        told(SessionMoveStage::Saved);
        let mut opening = other.open_session(&saved).limits(limits).arriving(from);
        if let Some(idle) = idle {
            opening = opening.idle(idle);
        }
        let arrived = opening.await;
        let there = arrived.map_err(not_moved(SessionMoveStage::Arrived))?;
        told(SessionMoveStage::Arrived);
        let half_done = |stage| {
            let there = there.id;
            move |source| SessionMoveError::HalfDone {
                there,
                stage,
                source,
            }
        };
        let key = insist!(other.key()).map_err(half_done(SessionMoveStage::GivenUp))?;
        let to = Origin {
            session: there.id,
            host: key,
        };
        match insist!(source.give_up_session(session.id, saved.id(), to)) {
            Ok(()) => {}
            Err(error) if keeps(&error) => {
                // What is held at the target serves nobody then.
                let _ = insist!(drop_held(&other, there.id));
                return Err(not_moved(SessionMoveStage::GivenUp)(error));
            }
            Err(error) => return Err(half_done(SessionMoveStage::GivenUp)(error)),
        }
        told(SessionMoveStage::GivenUp);
        let taken = insist!(other.take_over_session(there.id));
        taken.map_err(half_done(SessionMoveStage::TakenOver))?;
        told(SessionMoveStage::TakenOver);
        // The session was given up to this copy, so that those of moves which broke off before are of no
        // use. One that is still there when this fails is its owner's to close.
        for held in held_of(&other, from).await.unwrap_or_default() {
            let _ = drop_held(&other, held.session).await;
        }
        let forgotten = insist!(source.close_session(session.id, None));
        match forgotten {
            Err(error) if !is(&error, RefusalCode::UnknownSession) => {
                return Err(half_done(SessionMoveStage::Forgotten)(error));
            }
            _ => told(SessionMoveStage::Forgotten),
        }
        Ok(there)
    }
}

impl IntoFuture for MovingSession {
    type Output = Result<Session, SessionMoveError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.moved())
    }
}

impl Host {
    /// Ends a move of a session from here to `other` that was left half done, one way or the other, by
    /// what the two hosts have of it. Says which of them has the session now.
    ///
    /// # Errors
    ///
    /// When one of the hosts cannot be asked, neither has the session, since it was closed, or goes on at
    /// the other host under an id of its own; or the one that has it cannot take it up from its disk.
    ///
    /// Cancel-safe: ask again.
    pub async fn settle_session(
        &self,
        id: SessionId,
        other: &Host,
    ) -> Result<SessionSettled, SessionError> {
        let host = self.key().await?;
        let from = Origin { session: id, host };
        let there = other.key().await?;
        let to = |session| Origin {
            session,
            host: there,
        };
        let forget = async || match self.close_session(id, None).await {
            Err(error) if !is(&error, RefusalCode::UnknownSession) => Err(error),
            _ => Ok(()),
        };
        // One that cannot be taken up is listed as what is on the disk, and can be asked for nothing more.
        let sessions = self.sessions().await?;
        let found = sessions.iter().find(|it| it.session == id);
        let on_disk = found.filter(|it| it.unavailable.is_some());
        let on_disk = on_disk.and_then(|it| it.gave_up);
        let give_up = async |copy: &SessionInfo| {
            let to = to(copy.session);
            match on_disk == Some(to) {
                true => Ok(()),
                false => {
                    let expected = bundle_id(copy.bundle);
                    self.give_up_session(id, expected, to).await
                }
            }
        };
        for held in held_of(other, from).await? {
            match give_up(&held).await {
                Ok(()) => {
                    other.take_over_session(held.session).await?;
                    forget().await?;
                    return Ok(SessionSettled::AtTarget(held.session));
                }
                // It goes on there, or went on from elsewhere: the copy is of no use.
                Err(error) if keeps(&error) => drop_held(other, held.session).await?,
                // That it is not there any more does not say that it was given up to this copy.
                Err(error) => return Err(error),
            }
        }
        let sessions = self.sessions().await?;
        let found = sessions.iter().find(|it| it.session == id);
        let unknown =
            || CallError::Refused(Refused::new(RefusalCode::UnknownSession, id.to_string()));
        let found = found.ok_or_else(unknown)?;
        let Some(gone) = found.gave_up else {
            available(found.unavailable, &found.why)?;
            return Ok(SessionSettled::AtSource);
        };
        let sessions = other.sessions().await?;
        let copy = sessions.iter().find(|it| it.session == gone.session);
        let Some(copy) = copy.filter(|_| gone == to(gone.session)) else {
            let what = gone.to_string();
            let elsewhere = Refused::new(RefusalCode::SessionElsewhere, what);
            return Err(CallError::Refused(elsewhere));
        };
        available(copy.unavailable, &copy.why)?;
        // Durably, which the list does not say; and taken over, before it is forgotten here.
        give_up(copy).await?;
        other.take_over_session(gone.session).await?;
        forget().await?;
        Ok(SessionSettled::AtTarget(gone.session))
    }
}

/// What a session was opened with, to go with it: limits, and its idle time.
async fn terms_of(
    host: &Host,
    id: SessionId,
) -> Result<(CallLimits, Option<Duration>), SessionError> {
    let sessions = host.sessions().await?;
    let info = sessions.iter().find(|it| it.session == id);
    let unknown = || CallError::Refused(Refused::new(RefusalCode::UnknownSession, id.to_string()));
    let info = info.ok_or_else(unknown)?;
    let idle = info.idle_asked_ms.map(Duration::from_millis);
    Ok((info.asked.into(), idle))
}

/// What a host holds that comes from there. One that it cannot take up is nothing that a session may be
/// given up to, and nothing that one which is still there needs.
async fn held_of(host: &Host, from: Origin) -> Result<Vec<SessionInfo>, SessionError> {
    let mut sessions = host.sessions().await?;
    sessions.retain(|it| it.held == Some(from) && it.unavailable.is_none());
    Ok(sessions)
}

/// Closes a copy that is of no use, if it is held still.
async fn drop_held(host: &Host, id: SessionId) -> Result<(), SessionError> {
    let sessions = host.sessions().await?;
    let held = sessions
        .iter()
        .any(|it| it.session == id && it.held.is_some());
    match held {
        true => match host.close_session(id, None).await {
            Err(error) if !is(&error, RefusalCode::UnknownSession) => Err(error),
            _ => Ok(()),
        },
        false => Ok(()),
    }
}

/// Whether a source says that it does not give a session up to a copy: it has changed, comes from
/// elsewhere itself, or was given up to another.
fn keeps(error: &SessionError) -> bool {
    use RefusalCode::{SessionChanged, SessionElsewhere, SessionHeld};
    [SessionChanged, SessionElsewhere, SessionHeld]
        .into_iter()
        .any(|code| is(error, code))
}

fn is(error: &SessionError, code: RefusalCode) -> bool {
    matches!(error, CallError::Refused(refused) if refused.code == code)
}
