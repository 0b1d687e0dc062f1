//! Messages of sessions, and of the images that sessions are saved as.
//!
//! Requests to one session are carried out in the order in which the host receives them, whatever
//! streams they come on.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::random_id;
use crate::message::{CallLimits, Encoding, MessageError, byte_string, cut, within};
use crate::{BlobId, PublicKey, RefusalCode};

/// Most sessions that a list names.
pub const SESSIONS_LISTED_MAX: usize = 1024;
/// Longest text in a list of sessions, in bytes. Longer ones are cut when they are made.
pub const SESSION_TEXT_BYTES_MAX: usize = 128;
/// Longest set of blocks, in bytes: a bit for each that 32 bits of addresses reach.
pub const BLOCK_SET_BYTES_MAX: usize = (1 << 20) / 8;

random_id! {
    /// Names a session of a host. Random; what it names is found for its owner's key only.
    ///
    /// Written as 32 lower-case hexadecimal digits.
    SessionId,
    /// A text is not the id of a session.
    NotASession "the id of a session has 32 lower-case hexadecimal digits"
}

/// Asks for a session of a bundle: an instance that is kept between calls. What the guest prints
/// while it begins comes as output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpen {
    /// The bundle: with captures, with an image, or with neither
    pub bundle: BlobId,
    /// What the caller allows at most: the memory for as long as the session lives, the rest for
    /// its beginning
    pub limits: CallLimits,
    /// Time without a call after which the session is closed, in milliseconds; the host's own when
    /// it is lower or none is given
    pub idle_ms: Option<u64>,
}

/// A session of a host: where one comes from, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its id there
    pub session: SessionId,
    /// The key of the host; nothing when it is one without a key, in some program of the owner's
    pub host: Option<PublicKey>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "session {} of {host}", self.session),
            None => write!(f, "session {} of a program of its owner's", self.session),
        }
    }
}

/// Asks for a session that comes from another host, as [`SessionOpen`] does. When it is answered the
/// session is on the disk, and **held**: nothing runs in it until [`SessionTakeOver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionArrive {
    /// What is opened: a bundle that the session was saved as
    pub open: SessionOpen,
    /// Where it comes from
    pub from: Origin,
}

/// Asks a host to give a session up to the copy of it that another host holds. From then on nothing
/// runs in it there, also after a restart; it is listed until it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGiveUp {
    /// The session
    pub session: SessionId,
    /// The saved bundle that its state still is
    pub expected: BlobId,
    /// The copy that goes on
    pub to: Origin,
}

/// Says that the host which a held session comes from has given it up: it may be called from now on.
/// Of one that is not held it says nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionTakeOver {
    /// The session
    pub session: SessionId,
}

/// Asks for a call in a session. The arguments follow as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCall {
    /// The session
    pub session: SessionId,
    /// The callable's index in the manifest
    pub callable: u32,
    /// What the caller allows at most; memory is the session's
    pub limits: CallLimits,
    /// Where the guest's random bytes start; new ones when none is given
    pub seed: Option<u64>,
    /// Length of the encoded arguments that follow
    pub args_bytes: u64,
}

/// As [`SessionCall`], of a callable that emits items: they come as `Item`. Its result has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCallItems {
    /// The call
    pub call: SessionCall,
    /// Items that may be sent ahead of those that the client has taken; 1 to
    /// [`ITEM_WINDOW_MAX`](crate::job::ITEM_WINDOW_MAX)
    pub window: u32,
}

/// Asks for an image of the session. The host keeps it as long as the session is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSave {
    /// The session
    pub session: SessionId,
}

/// Puts the session back to its last saved image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRestore {
    /// The session
    pub session: SessionId,
}

/// Ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClose {
    /// The session
    pub session: SessionId,
    /// Only if its state is still that of this saved bundle
    pub expected: Option<BlobId>,
}

/// The session is there, and can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOpened {
    /// The session
    pub session: SessionId,
}

/// The session is saved: what it was then can be fetched, and restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSaved {
    /// A bundle with the session's code and its image
    pub bundle: BlobId,
    /// Blocks of the image
    pub blocks: u64,
    /// Blocks that the last saved image did not have
    pub blocks_new: u64,
}

/// The session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionClosed {
    /// The session
    pub session: SessionId,
}

/// How a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    /// Its instance is in memory
    Live,
    /// It is kept as an image, and its instance is made at the next call
    Resting,
    /// It was stopped within a call. It can be restored if it was saved, and closed
    Poisoned,
}

/// A session of the key that asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The session
    pub session: SessionId,
    /// The bundle that it was opened from
    pub bundle: BlobId,
    /// The name of the guest
    pub name: String,
    /// How it is
    pub state: SessionState,
    /// Why it is poisoned, or empty
    pub why: String,
    /// Memory that it takes, in bytes
    pub memory_bytes: u64,
    /// Calls that were carried out
    pub calls: u64,
    /// Since its last call, in milliseconds
    pub idle_ms: u64,
    /// After which of these it is closed; nothing when it is not
    pub idle_max_ms: Option<u64>,
    /// What its owner asked for as that, which the host may have lowered
    pub idle_asked_ms: Option<u64>,
    /// What its owner asked for as limits when it was opened
    pub asked: CallLimits,
    /// Why it could not be taken up from the disk, if so: nothing else is known of it then but where it
    /// is. `why` has more words
    pub unavailable: Option<RefusalCode>,
    /// The bundle that it was last saved as
    pub saved: Option<BlobId>,
    /// Where it comes from, while it is held: its owner has not said that it was given up there
    pub held: Option<Origin>,
    /// What it was given up to
    pub gave_up: Option<Origin>,
}

impl SessionInfo {
    /// One that could not be taken up.
    pub fn unavailable(session: SessionId, code: RefusalCode, why: String) -> SessionInfo {
        SessionInfo {
            session,
            bundle: BlobId([0; 32]),
            name: String::new(),
            state: SessionState::Poisoned,
            why,
            memory_bytes: 0,
            calls: 0,
            idle_ms: 0,
            idle_max_ms: None,
            idle_asked_ms: None,
            asked: CallLimits::default(),
            unavailable: Some(code),
            saved: None,
            held: None,
            gave_up: None,
        }
    }
}

/// The sessions of the key that asks, at most [`SESSIONS_LISTED_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// In the order of their ids
    pub sessions: Vec<SessionInfo>,
}

impl Sessions {
    /// Cuts texts and the list to their limits. Call it before sending.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.sessions.truncate(SESSIONS_LISTED_MAX);
        for session in &mut self.sessions {
            cut(&mut session.name, SESSION_TEXT_BYTES_MAX);
            cut(&mut session.why, SESSION_TEXT_BYTES_MAX);
        }
        self
    }

    pub(crate) fn check(&self) -> Result<(), MessageError> {
        within("Sessions", self.sessions.len(), SESSIONS_LISTED_MAX)?;
        let texts = self.sessions.iter().flat_map(|it| [&it.name, &it.why]);
        texts
            .into_iter()
            .try_for_each(|text| within("Sessions text", text.len(), SESSION_TEXT_BYTES_MAX))
    }
}

/// Some of the distinct blocks that the index of an image names, by their places there: bit *n* of
/// byte *m* stands for block 8 *m* + *n*.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockSet {
    #[serde(with = "byte_string")]
    bits: Bytes,
}

impl BlockSet {
    /// The set of these places, which ascend.
    pub fn new(places: impl Iterator<Item = usize>) -> BlockSet {
        let mut bits = Vec::new();
        for place in places {
            if bits.len() <= place / 8 {
                bits.resize(place / 8 + 1, 0);
            }
            bits[place / 8] |= 1 << (place % 8);
        }
        BlockSet { bits: bits.into() }
    }

    /// The places, in ascending order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        let bits = self.bits.iter().enumerate();
        bits.flat_map(|(byte, bits)| {
            (0..8)
                .filter(move |bit| bits & (1 << bit) != 0)
                .map(move |bit| 8 * byte + bit)
        })
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        let ones = self.bits.iter().map(|byte| u64::from(byte.count_ones()));
        ones.sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn check(&self, field: &'static str) -> Result<(), MessageError> {
        within(field, self.bits.len(), BLOCK_SET_BYTES_MAX)?;
        if self.is_empty() {
            return Err(MessageError::Empty { field });
        }
        Ok(())
    }
}

/// Asks for a blob that the key may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetch {
    /// The blob
    pub blob: BlobId,
}

/// Asks for blocks of an image that the key may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchBlocks {
    /// The index of the image
    pub index: BlobId,
    /// Which of its blocks
    pub wanted: BlockSet,
}

/// What was fetched; its bytes follow as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// How the bytes travel
    pub encoding: Encoding,
    /// Length of the blob, or of the blocks one after the other
    pub raw_bytes: u64,
    /// Length of the payload
    pub wire_bytes: u64,
}

/// Asks the client for blocks of the image that its request is about. Once for a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlocksMissing {
    /// The index of the image
    pub index: BlobId,
    /// Which of its blocks
    pub missing: BlockSet,
}

/// The blocks that the host asked for, one after the other. Their bytes follow as payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// The index of the image
    pub index: BlobId,
    /// How the bytes travel
    pub encoding: Encoding,
    /// 4,096 for each block
    pub raw_bytes: u64,
    /// Length of the payload
    pub wire_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_and_read() {
        let id = SessionId(std::array::from_fn(|n| n as u8 * 17));
        assert_eq!(id.to_string(), "00112233445566778899aabbccddeeff");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "",
            "00",
            "g0112233445566778899aabbccddeeff",
            "00112233445566778899AABBCCDDEEFF",
        ] {
            assert_eq!(wrong.parse::<SessionId>(), Err(NotASession), "{wrong}");
        }
    }

    #[test]
    fn a_set_has_the_places_that_it_was_made_of() {
        let places = [0, 7, 8, 100];
        let set = BlockSet::new(places.into_iter());
        assert_eq!(set.places().collect::<Vec<_>>(), places);
        assert_eq!((set.len(), set.is_empty()), (4, false));
        assert!(BlockSet::default().is_empty());
    }
}
