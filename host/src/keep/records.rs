//! Records of sessions and jobs, layout 1. Frozen: a field more or less is another variant.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use spore_bundle::BundleId;
use spore_transport::failure::Failure;
use spore_transport::job::{Custody, Persist};
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::session::Origin;

use crate::events::{self, Finished};

/// A session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum SessionRecord {
    /// As this release writes it.
    V1 {
        /// What its owner allowed at most
        asked: CallLimits,
        /// Time without a call after which it is closed, as its owner asked for it: the host's own may
        /// be less. [`NO_IDLE_MS`](Self::NO_IDLE_MS) where nothing was asked for
        idle_ms: u64,
    },
    /// One that is held.
    Held {
        /// As above
        asked: CallLimits,
        /// As above
        idle_ms: u64,
        /// Where it comes from
        from: Origin,
    },
    /// One that was given up.
    GaveUp {
        /// As above
        asked: CallLimits,
        /// As above
        idle_ms: u64,
        /// What
        gave_up: GaveUp,
    },
    /// One that was not given up to copies of it.
    Refusing {
        /// As above
        asked: CallLimits,
        /// As above
        idle_ms: u64,
        /// The copies
        refused: Vec<Origin>,
    },
}

/// What a session was given up as, and to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GaveUp {
    /// The saved bundle that its state was
    pub(crate) expected: BundleId,
    /// The copy that goes on
    pub(crate) to: Origin,
}

/// Where a session is among the hosts that it moves between.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SessionPlace {
    /// Where it comes from, while it is held
    pub(crate) held: Option<Origin>,
    /// The copy that it was given up to
    pub(crate) gave_up: Option<Origin>,
}

impl SessionRecord {
    /// Stands for no idle time.
    pub(crate) const NO_IDLE_MS: u64 = u64::MAX;

    /// Where it is.
    pub(crate) fn place(&self) -> SessionPlace {
        let (_, _, held) = self.terms();
        SessionPlace {
            held,
            gave_up: self.gave_up().map(|gone| gone.to),
        }
    }

    /// What its owner allowed at most, the idle time asked for, and where it comes from while it is
    /// held.
    pub(crate) fn terms(&self) -> (CallLimits, Option<Duration>, Option<Origin>) {
        let (asked, idle_ms, held) = match *self {
            SessionRecord::V1 { asked, idle_ms } => (asked, idle_ms, None),
            SessionRecord::Held {
                asked,
                idle_ms,
                from,
            } => (asked, idle_ms, Some(from)),
            SessionRecord::GaveUp { asked, idle_ms, .. }
            | SessionRecord::Refusing { asked, idle_ms, .. } => (asked, idle_ms, None),
        };
        let idle = (idle_ms != Self::NO_IDLE_MS).then(|| Duration::from_millis(idle_ms));
        (asked, idle, held)
    }

    /// What it was given up to, if it was.
    pub(crate) fn gave_up(&self) -> Option<GaveUp> {
        match *self {
            SessionRecord::GaveUp { gave_up, .. } => Some(gave_up),
            SessionRecord::V1 { .. }
            | SessionRecord::Held { .. }
            | SessionRecord::Refusing { .. } => None,
        }
    }

    /// The copies that it was not given up to.
    pub(crate) fn refused(&self) -> Vec<Origin> {
        match self {
            SessionRecord::Refusing { refused, .. } => refused.clone(),
            _ => Vec::new(),
        }
    }
}

/// A job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum JobRecord {
    /// As this release writes it.
    V1(Kept),
}

/// The record of a job, and how its image is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct JobNoted {
    pub(super) record: JobRecord,
    /// What its image is kept as the difference from; nothing when it is kept whole, or there is none.
    pub(super) since: Option<Since>,
}

/// What an image is a difference from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    /// What came ahead of the job
    pub(super) ahead: [u8; 16],
    /// The hash of the index that the difference makes
    pub(super) state: [u8; 32],
}

/// What is kept of a job beside its bundle and its image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) callable: u32,
    pub(crate) asked: CallLimits,
    pub(crate) seed: u64,
    pub(crate) persist: Persist,
    pub(crate) custody: Custody,
    /// Its owner wants it to stand still
    pub(crate) paused: bool,
    pub(crate) age_ms: u64,
    pub(crate) stops: u64,
    pub(crate) done: u64,
    pub(crate) total: u64,
    /// The first item that was not taken
    pub(crate) items_first: u64,
    /// How it has ended, if it has; a payload lies beside
    pub(crate) ended: Option<EndedAs>,
}

/// How a job has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EndedAs {
    pub(crate) outcome: Outcome,
    pub(crate) timing: Timing,
    pub(crate) output_cut: bool,
}

impl EndedAs {
    /// An ending, and the payload that lies beside.
    pub(crate) fn of(finished: &Finished) -> (EndedAs, Bytes) {
        let (outcome, payload) = match &finished.outcome {
            events::Outcome::Value(value) => (Outcome::Value, value.clone()),
            events::Outcome::Error(error) => (Outcome::Error, error.clone()),
            events::Outcome::Failed(failure) => (Outcome::Failed(failure.clone()), Bytes::new()),
            events::Outcome::Refused(refused) => (Outcome::Refused(refused.clone()), Bytes::new()),
        };
        let ended = EndedAs {
            outcome,
            timing: finished.timing,
            output_cut: finished.output_cut,
        };
        (ended, payload)
    }

    /// The ending with its payload.
    pub(crate) fn finished(&self, payload: Bytes) -> Finished {
        Finished {
            outcome: match &self.outcome {
                Outcome::Value => events::Outcome::Value(payload),
                Outcome::Error => events::Outcome::Error(payload),
                Outcome::Failed(failure) => events::Outcome::Failed(failure.clone()),
                Outcome::Refused(refused) => events::Outcome::Refused(refused.clone()),
            },
            timing: self.timing,
            output_cut: self.output_cut,
        }
    }
}

/// The end itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The value that lies beside
    Value,
    /// The guest's error that lies beside
    Error,
    Failed(Failure),
    Refused(Refused),
}

/// The index of an image as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Indexed {
    /// Or the head of the changes since another
    #[serde(with = "bytes_of")]
    pub(super) image: Vec<u8>,
    /// What goes with it: items that a job holds
    #[serde(with = "bytes_of")]
    pub(super) beside: Vec<u8>,
}

/// The same to be written.
#[derive(Serialize)]
pub(super) struct ToIndex<'a> {
    #[serde(serialize_with = "bytes_of::serialize")]
    pub(super) image: &'a [u8],
    #[serde(serialize_with = "bytes_of::serialize")]
    pub(super) beside: &'a [u8],
}

/// How the blocks of an ending are to be read.
#[derive(Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) payload_bytes: u64,
    pub(super) items_bytes: u64,
}

/// Bytes as one piece rather than one by one.
pub(in crate::keep) mod bytes_of {
    use serde::{Deserializer, Serializer};

    pub(in crate::keep) fn serialize<S: Serializer>(
        bytes: impl AsRef<[u8]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes.as_ref())
    }

    pub(in crate::keep) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<u8>, D::Error> {
        struct Piece;
        impl serde::de::Visitor<'_> for Piece {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        from.deserialize_byte_buf(Piece)
    }
}
