//! Sessions: instances that a host keeps between calls.
//!
//! A session is an instance in memory or, when it has rested for a while, the image of one. What is
//! asked of it is done in the order in which it was asked, as work on the host's workers. A call that
//! does not come to its end leaves the instance in between: it is thrown away, and the session says
//! so from then on.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::image::{BLOCK_BYTES, Bound, Image};
use spore_bundle::{Bundle, BundleId};
use spore_transport::message::{CallLimits, Refused, Timing};
use spore_transport::session::{Origin, SESSION_TEXT_BYTES_MAX, SessionInfo, SessionState};
use spore_transport::{BlobId, RefusalCode, SessionId};
use tokio::runtime::Handle;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use wasmtime::{Engine, Instance, Memory, ModuleExport, Store};

use crate::bundles::Loaded;
use crate::callers::{Caller, KeyState};
use crate::code::{check_image_memory, refuse_misfit};
use crate::damaged::Damaged;
use crate::guest::Guest;
use crate::keep::{GaveUp, SessionPlace, SessionRecord};
use crate::limits::{RunLimits, millis};
use crate::room::{Held, Total};
use crate::scheduler::lock;
use crate::wasi::Directory;
use crate::work::Slots;

mod keeping;
mod running;

pub(crate) use keeping::{Close, Giving, ToWrite, close, give_up, rest, restore, save, unsave};
pub(crate) use running::{SessionWork, Task};

/// Time without a call after which an instance is kept as its image.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Time until that is tried again when it was not possible.
const REST_AGAIN: Duration = Duration::from_secs(10);

/// Time between looks at which sessions are to rest or to end.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// A call in a session.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// Index of the callable in the manifest.
    pub callable: u32,
    /// The encoded arguments.
    pub arguments: Bytes,
    /// What the caller allows at most. Memory is the session's.
    pub limits: CallLimits,
    /// Where the guest's random bytes begin; new ones when none is given.
    pub seed: Option<u64>,
    /// Whether the caller takes the items of a callable that emits them.
    pub items: bool,
    /// What went before: transfer.
    pub timing: Timing,
}

/// A session that was saved.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The session's code with its image.
    pub bundle: Bundle,
    /// Blocks of the image that the last saved one did not have.
    pub blocks_new: u64,
}

/// The sessions of a host. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Sessions {
    all: Arc<Mutex<HashMap<SessionId, Arc<Session>>>>,
    /// Those on the disk that were not taken up.
    pub(crate) damaged: Arc<Damaged<SessionId, SessionPlace>>,
}

impl Sessions {
    /// The session of this id, if it is the caller's.
    pub(crate) fn find(&self, caller: &Caller, id: SessionId) -> Result<Arc<Session>, Refused> {
        let session = lock(&self.all).get(&id).cloned();
        let own = session.filter(|session| Arc::ptr_eq(&session.key, &caller.state));
        own.ok_or_else(|| {
            let damage = self.damaged.get(caller.state.id, id);
            let unknown = || Refused::new(RefusalCode::UnknownSession, id.to_string());
            damage.map_or_else(unknown, |damage| damage.why)
        })
    }

    /// The caller's sessions that were not taken up.
    pub(crate) fn unreadable(&self, caller: &Caller) -> Vec<SessionInfo> {
        let own = self.damaged.of(caller.state.id).into_iter();
        own.map(|(session, damage)| {
            let place = damage.place.unwrap_or_default();
            SessionInfo {
                held: place.held,
                gave_up: place.gave_up,
                ..SessionInfo::unavailable(session, damage.why.code, damage.why.message)
            }
        })
        .collect()
    }

    /// The caller's sessions, in the order of their ids.
    pub(crate) fn of(&self, caller: &Caller) -> Vec<Arc<Session>> {
        let all = lock(&self.all);
        let own = all
            .values()
            .filter(|session| Arc::ptr_eq(&session.key, &caller.state));
        let mut own: Vec<_> = own.cloned().collect();
        own.sort_by_key(|session| session.id);
        own
    }

    /// Takes a session in, if the caller may have one more.
    pub(crate) fn put(&self, caller: &Caller, session: &Arc<Session>) -> Result<(), Refused> {
        let limit = caller.limits.sessions_per_key;
        let mut all = lock(&self.all);
        if all.contains_key(&session.id) {
            let what = "the session is there already";
            return Err(Refused::new(RefusalCode::Internal, what));
        }
        let own = all
            .values()
            .filter(|it| Arc::ptr_eq(&it.key, &caller.state))
            .count();
        if own as u64 >= u64::from(limit) {
            return Err(Refused::new(RefusalCode::TooManySessions, "").past(u64::from(limit), None));
        }
        all.insert(session.id, session.clone());
        Ok(())
    }

    pub(crate) fn remove(&self, id: SessionId) {
        lock(&self.all).remove(&id);
    }

    /// Whether it is there.
    pub(crate) fn has(&self, id: SessionId) -> bool {
        lock(&self.all).contains_key(&id)
    }

    /// Every session, for the look round.
    pub(crate) fn every(&self) -> Vec<Arc<Session>> {
        lock(&self.all).values().cloned().collect()
    }
}

/// A session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) key: Arc<KeyState>,
    /// As it was opened from.
    bundle: Bundle,
    /// The bundle without its image: an image is put into an instance of the code as it is.
    loaded: Arc<Loaded>,
    /// What it runs when it was restored.
    restored: Option<ModuleExport>,
    limits: RunLimits,
    asked: CallLimits,
    idle: Duration,
    /// What its owner asked for as that.
    idle_asked: Option<Duration>,
    directories: Arc<[Directory]>,
    open_files: u32,
    kept: Arc<tokio::sync::Mutex<Kept>>,
    disk: Arc<tokio::sync::Mutex<()>>,
    /// What it was last saved as that was written down, if there is a disk.
    written: Mutex<Option<SavedAs>>,
    notes: Mutex<Notes>,
}

/// Copies of a session that are remembered as refused: more moves of one do not meet.
const REFUSED_MAX: usize = 16;

/// What is told of a session without waiting for its turn.
struct Notes {
    used: Instant,
    /// When it could not rest the last time: looking through it again takes as long.
    restless: Option<Instant>,
    /// Requests that wait or are carried out.
    busy: u32,
    calls: u64,
    memory: u64,
    state: SessionState,
    why: String,
    saved: Option<Bundle>,
    held: Option<Origin>,
    gave_up: Option<Origin>,
    /// The last copies that it was not given up to, the newest first.
    refused: VecDeque<Origin>,
}

/// What is kept of a session, for whoever has its turn.
pub(crate) struct Kept {
    state: State,
    /// The last image that was taken. It is the session's state while it rests.
    image: Option<Arc<Charged>>,
    saved: Option<SavedAs>,
    /// How often it was saved.
    saves: u64,
    /// Whether a call has run since the image was taken.
    changed: bool,
    /// Whether the image is one that was saved: the guest is told when it is put into an instance.
    from_outside: bool,
}

enum State {
    Live(Box<Alive>),
    Resting,
    /// Why.
    Poisoned(String),
    /// To a copy of it elsewhere.
    GaveUp(GaveUp),
    Closed,
}

/// An image and the room that it takes.
pub(crate) struct Charged {
    pub(crate) image: Image,
    _room: Room,
}

/// What something was saved as. Its image takes its room for as long as this is there.
#[derive(Clone)]
pub(crate) struct SavedAs {
    pub(crate) bundle: Bundle,
    pub(crate) charged: Arc<Charged>,
}

impl SavedAs {
    /// The same bundle with this image of one of its instances.
    ///
    /// # Errors
    ///
    /// When nobody could open it: its state has more than so many bytes.
    pub(crate) fn within(
        state_max: u64,
        bundle: &Bundle,
        charged: Arc<Charged>,
    ) -> Result<SavedAs, Refused> {
        let index = charged.image.index_bytes().len() as u64;
        // A block that is there twice counts once.
        if index + charged.image.changed_bytes() > state_max {
            let blocks = charged.image.distinct().len() * BLOCK_BYTES;
            let bytes = index + blocks as u64;
            if bytes > state_max {
                let refused = Refused::new(RefusalCode::StateTooLarge, "of what is to be saved");
                return Err(refused.past(state_max, bytes));
            }
        }
        SavedAs::new(bundle, charged)
    }

    /// The same, of what was saved before.
    fn new(bundle: &Bundle, charged: Arc<Charged>) -> Result<SavedAs, Refused> {
        let bundle = bundle.with_image(charged.image.clone());
        let bundle = bundle.map_err(|error| {
            let what = crate::code::chain(&error);
            Refused::new(RefusalCode::NoImage, what)
        })?;
        Ok(SavedAs { bundle, charged })
    }

    /// How many of its blocks `before` did not have.
    pub(crate) fn blocks_new(&self, before: Option<&SavedAs>) -> u64 {
        let image = &self.charged.image;
        let new = match before {
            Some(before) => image.blocks_new_since(&before.charged.image),
            None => image.distinct().len(),
        };
        new as u64
    }
}

impl Charged {
    /// Takes the room among the images of the key's sessions and jobs.
    pub(crate) fn take(key: &KeyState, image: Image) -> Result<Arc<Charged>, Refused> {
        let room = Room::take(key, image.changed_bytes())?;
        Ok(Arc::new(Charged { image, _room: room }))
    }
}

#[derive(Debug)]
pub(crate) struct Room {
    total: Arc<Total>,
    bytes: u64,
}

impl Room {
    /// Takes room among what is held for the key's sessions and jobs.
    pub(crate) fn take(key: &KeyState, bytes: u64) -> Result<Room, Refused> {
        let total = key.images.clone();
        match total.take(bytes) {
            Ok(()) => Ok(Room { total, bytes }),
            Err(all) => {
                let what = "bytes held for the key's sessions and jobs";
                let refused = Refused::new(RefusalCode::TooManySessions, what);
                Err(refused.past(total.limit(), all))
            }
        }
    }
}

impl Room {
    /// The same, from now on without a key.
    pub(crate) fn held(self) -> Held {
        let held = self.total.hold(self.bytes);
        drop(self);
        held
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.total.give_back(self.bytes);
    }
}

/// An instance.
struct Alive {
    store: Store<Guest>,
    instance: Instance,
    memory: Memory,
    bound: Option<Bound>,
    _slots: Slots,
}

/// What it takes to make an instance.
#[derive(Clone)]
pub(crate) struct Means {
    pub(crate) engine: Engine,
    pub(crate) instances: Arc<Semaphore>,
    pub(crate) memory: Arc<Total>,
    /// Where what is large is freed.
    pub(crate) background: Handle,
}

/// A turn with a session: taken in the order in which they were asked for.
pub(crate) struct Turn {
    session: Arc<Session>,
    lock: Pin<Box<dyn Future<Output = OwnedMutexGuard<Kept>> + Send>>,
    busy: Busy,
}

/// Counts as a request under way.
pub(crate) struct Busy(Arc<Session>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut notes = lock(&self.0.notes);
        notes.busy -= 1;
        notes.used = Instant::now();
    }
}

impl Turn {
    /// Whose turn it is.
    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.clone()
    }

    /// Waits for the turn.
    async fn taken(self) -> (Arc<Session>, OwnedMutexGuard<Kept>, Busy) {
        let Turn {
            session,
            lock,
            busy,
        } = self;
        (session, lock.await, busy)
    }
}

/// What a session is opened with.
pub(crate) struct Opened {
    pub(crate) bundle: Bundle,
    /// The bundle's code as it is.
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) limits: RunLimits,
    /// What its owner allowed at most.
    pub(crate) asked: CallLimits,
    pub(crate) idle: Duration,
    /// What its owner asked for as that.
    pub(crate) idle_asked: Option<Duration>,
    pub(crate) directories: Arc<[Directory]>,
    pub(crate) open_files: u32,
    /// Where it comes from, if it is held
    pub(crate) held: Option<Origin>,
    /// Copies that it was not given up to.
    pub(crate) refused: Vec<Origin>,
}

impl Session {
    pub(crate) fn new(caller: &Caller, opened: Opened) -> Result<Session, Refused> {
        let kept = Kept {
            state: State::Closed,
            image: None,
            saved: None,
            saves: 0,
            changed: false,
            from_outside: false,
        };
        Session::of(caller, SessionId(rand_bytes()), opened, kept)
    }

    /// One that was saved as this image before.
    pub(crate) fn resting(
        caller: &Caller,
        id: SessionId,
        opened: Opened,
        image: Image,
    ) -> Result<Session, Refused> {
        let charged = Charged::take(&caller.state, image)?;
        let saved = SavedAs::new(&opened.bundle, charged.clone())?;
        let kept = Kept {
            state: State::Resting,
            image: Some(charged),
            saved: Some(saved),
            saves: 0,
            changed: false,
            from_outside: true,
        };
        Session::of(caller, id, opened, kept)
    }

    /// One that was given up before.
    pub(crate) fn gone(
        caller: &Caller,
        id: SessionId,
        opened: Opened,
        gave_up: GaveUp,
    ) -> Result<Session, Refused> {
        let kept = Kept {
            state: State::GaveUp(gave_up),
            image: None,
            saved: None,
            saves: 0,
            changed: false,
            from_outside: false,
        };
        Session::of(caller, id, opened, kept)
    }

    fn of(caller: &Caller, id: SessionId, opened: Opened, kept: Kept) -> Result<Session, Refused> {
        let code = &opened.loaded.ready().code;
        let hook = |name: &Option<String>| name.as_ref().map(|name| code.hook(name)).transpose();
        let manifest = opened.bundle.manifest();
        let restored = hook(&manifest.restored)?;
        let notes = Notes {
            used: Instant::now(),
            restless: None,
            busy: 0,
            calls: 0,
            memory: 0,
            state: SessionState::Live,
            why: String::new(),
            saved: None,
            held: opened.held,
            gave_up: None,
            refused: opened.refused.into(),
        };
        let written = Mutex::new(kept.saved.clone());
        let session = Session {
            id,
            key: caller.state.clone(),
            bundle: opened.bundle,
            loaded: opened.loaded,
            restored,
            limits: opened.limits,
            asked: opened.asked,
            idle: opened.idle,
            idle_asked: opened.idle_asked,
            directories: opened.directories,
            open_files: opened.open_files,
            kept: Arc::new(tokio::sync::Mutex::new(kept)),
            disk: Arc::default(),
            written,
            notes: Mutex::new(notes),
        };
        // Nobody else has it yet.
        if let Ok(kept) = session.kept.try_lock() {
            session.note(&kept);
        }
        Ok(session)
    }

    /// What is kept of it beside its bundle and its image.
    pub(crate) fn record(&self, held: Option<Origin>) -> SessionRecord {
        let (asked, idle_ms) = (self.asked, self.idle_asked_ms());
        let refused: Vec<Origin> = lock(&self.notes).refused.iter().copied().collect();
        match held {
            None if refused.is_empty() => SessionRecord::V1 { asked, idle_ms },
            None => SessionRecord::Refusing {
                asked,
                idle_ms,
                refused,
            },
            Some(from) => SessionRecord::Held {
                asked,
                idle_ms,
                from,
            },
        }
    }

    /// What is kept of it once it was given up.
    pub(crate) fn gave_up_record(&self, expected: BundleId, to: Origin) -> SessionRecord {
        SessionRecord::GaveUp {
            asked: self.asked,
            idle_ms: self.idle_asked_ms(),
            gave_up: GaveUp { expected, to },
        }
    }

    /// What is kept of the idle time that its owner asked for.
    fn idle_asked_ms(&self) -> u64 {
        self.idle_asked.map_or(SessionRecord::NO_IDLE_MS, millis)
    }

    /// Remembers that it was not given up to a copy of it.
    fn note_refused(&self, to: Origin) {
        let mut notes = lock(&self.notes);
        notes.refused.truncate(REFUSED_MAX - 1);
        notes.refused.push_front(to);
    }

    fn has_refused(&self, to: &Origin) -> bool {
        lock(&self.notes).refused.contains(to)
    }

    /// Whether a move has left it held, or given up: nobody else ends it.
    fn waits_for_owner(&self) -> bool {
        let notes = lock(&self.notes);
        notes.gave_up.is_some() || notes.held.is_some() && lock(&self.written).is_some()
    }

    /// Whether it comes from elsewhere and is not on the disk yet.
    pub(crate) fn is_arriving(&self) -> bool {
        self.held().is_some() && lock(&self.written).is_none()
    }

    /// Notes that it was written down as this. Whoever calls has the turn at the disk.
    pub(crate) fn note_written(&self, saved: SavedAs, held: Option<Origin>) {
        *lock(&self.written) = Some(saved);
        lock(&self.notes).held = held;
    }

    /// Where it comes from, while it is held.
    pub(crate) fn held(&self) -> Option<Origin> {
        lock(&self.notes).held
    }

    /// Refuses what is to run in a session that is held.
    pub(crate) fn check_not_held(&self) -> Result<(), Refused> {
        match self.held() {
            None => Ok(()),
            Some(from) => Err(Refused::new(RefusalCode::SessionHeld, from.to_string())),
        }
    }

    /// Asks for a turn. They come in the order of these calls.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        lock(&self.notes).busy += 1;
        let mut turn: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(self.kept.clone().lock_owned());
        let busy = Busy(self.clone());
        // A first look is what puts it in line.
        let looked = turn.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let std::task::Poll::Ready(kept) = looked {
            turn = Box::pin(std::future::ready(kept));
        }
        Turn {
            session: self.clone(),
            lock: turn,
            busy,
        }
    }

    /// The bundle that it was opened from.
    pub(crate) fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What its callables may read.
    pub(crate) fn directories(&self) -> &[Directory] {
        &self.directories
    }

    /// The callable whose captures are bound, by the bundle's captures or by its image's.
    pub(crate) fn has_captures_of(&self, callable: u32) -> bool {
        let captures = self.bundle.captures().map(|(index, _)| index);
        let image = self.bundle.image().and_then(|it| it.index().bound.first());
        captures.or(image.map(|bound| bound.callable)) == Some(callable)
    }

    pub(crate) fn info(&self) -> SessionInfo {
        let notes = lock(&self.notes);
        SessionInfo {
            session: self.id,
            bundle: BlobId(*self.bundle().id().as_bytes()),
            name: self.bundle().manifest().name.clone(),
            state: notes.state,
            why: notes.why.clone(),
            memory_bytes: notes.memory,
            calls: notes.calls,
            idle_ms: match notes.busy {
                0 => millis(notes.used.elapsed()),
                _ => 0,
            },
            idle_max_ms: Some(millis(self.idle)),
            idle_asked_ms: self.idle_asked.map(millis),
            asked: self.asked,
            unavailable: None,
            saved: notes
                .saved
                .as_ref()
                .map(|saved| BlobId(*saved.id().as_bytes())),
            held: notes.held,
            gave_up: notes.gave_up,
        }
    }

    /// What it was last saved as.
    pub(crate) fn saved(&self) -> Option<Bundle> {
        lock(&self.notes).saved.clone()
    }

    /// How long nothing was asked of it; nothing while something is.
    fn idle_time(&self) -> Option<Duration> {
        let notes = lock(&self.notes);
        (notes.busy == 0).then(|| notes.used.elapsed())
    }

    /// Whether it is to end: nobody has used it for as long as it may wait. One that is held waits
    /// for its owner, since it may be all that there is of it, and one that was given up says so
    /// until its owner has heard it.
    pub(crate) fn is_over(&self) -> bool {
        !self.waits_for_owner() && self.idle_time().is_some_and(|idle| idle >= self.idle)
    }

    /// Whether its instance is to be kept as an image; sooner when others wait for a place.
    pub(crate) fn is_to_rest(&self, others_wait: bool) -> bool {
        let live = {
            let notes = lock(&self.notes);
            let tried = notes
                .restless
                .is_some_and(|tried| tried.elapsed() < REST_AGAIN);
            notes.state == SessionState::Live && !tried
        };
        let after = if others_wait {
            Duration::ZERO
        } else {
            REST_AFTER
        };
        live && self.idle_time().is_some_and(|idle| idle >= after)
    }

    /// Notes how the session is, for those who ask without a turn.
    fn note(&self, kept: &Kept) {
        let mut notes = lock(&self.notes);
        notes.saved = kept.saved.as_ref().map(|saved| saved.bundle.clone());
        notes.why.clear();
        notes.memory = kept.image.as_ref().map_or(0, |it| it.image.changed_bytes());
        notes.state = match &kept.state {
            State::Live(alive) => {
                notes.memory += alive.memory.data_size(&alive.store) as u64;
                SessionState::Live
            }
            State::GaveUp(gone) => {
                notes.gave_up = Some(gone.to);
                SessionState::Resting
            }
            State::Resting | State::Closed => SessionState::Resting,
            State::Poisoned(why) => {
                notes.why = why.clone();
                let end = notes.why.floor_char_boundary(SESSION_TEXT_BYTES_MAX);
                notes.why.truncate(end);
                SessionState::Poisoned
            }
        };
    }
}

/// Whether a session of the bundle can be opened, whose code is loaded.
pub(crate) fn check(bundle: &Bundle, loaded: &Loaded, memory_max: u64) -> Result<(), Refused> {
    let interior = &loaded.ready().code.interior;
    // One without an image would hold an instance as long as it is there, and could not be saved.
    interior
        .check_imageable()
        .map_err(|obstacle| refuse_misfit(&obstacle.into()))?;
    if let Some(image) = bundle.image() {
        interior
            .check(image.index())
            .map_err(|misfit| refuse_misfit(&misfit))?;
        check_image_memory(image, memory_max)?;
        if image.index().run.is_some() {
            let what = "the bundle holds a run, which goes on as a job";
            return Err(Refused::new(RefusalCode::Unsupported, what));
        }
        if image.index().bound.len() > 1 {
            let what = "an image in which captures of more than one callable are bound";
            return Err(Refused::new(RefusalCode::Unsupported, what));
        }
    }
    if let Some((index, _)) = bundle.captures() {
        let callable = &bundle.manifest().callables[index as usize];
        if callable.consumes_captures {
            let what = format!(
                "{} uses its captures up, and a session binds them once: it is to take them by reference, \
                 such as `&u64`",
                callable.name
            );
            return Err(Refused::new(RefusalCode::Unsupported, what));
        }
    }
    Ok(())
}

/// A seed that nobody can guess.
pub(crate) fn new_seed() -> u64 {
    u64::from_le_bytes(rand_bytes())
}

/// Bytes that nobody can guess.
pub(crate) fn rand_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}
