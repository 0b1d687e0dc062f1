//! Who calls: a key, what it may use, and what it has under way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use spore_transport::status::RunningCall;
use spore_transport::{BlobId, KeyOptions, PublicKey};
use tokio::sync::Semaphore;

use crate::bundles::Charges;
use crate::grants::Allowed;
use crate::limits::{Limits, millis};
use crate::places::Places;
use crate::room::{Budget, Total};
use crate::scheduler::{Turn, lock};

/// Requests of one key that may hold a bundle on its way into memory at one time. Others of the
/// key wait, and those for the same bundle then find it there.
const LOADING_MAX: usize = 4;

/// One who calls, with the limits and grants that hold for it.
#[derive(Clone)]
pub struct Caller {
    pub(crate) state: Arc<KeyState>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) allowed: Arc<Allowed>,
    pub(crate) turn: Turn,
}

/// What all connections of one key share.
pub(crate) struct KeyState {
    /// The public key, or zeros for the program that embeds the host.
    pub(crate) id: [u8; 32],
    turn: Turn,
    /// Calls queued or running.
    pub(crate) calls: AtomicU32,
    /// Instances that the key may have alive.
    pub(crate) instances: Arc<Places>,
    pub(crate) connections: AtomicU32,
    /// Requests that are open.
    pub(crate) requests: AtomicU32,
    /// Requests that hold a bundle on its way into memory.
    pub(crate) loading: Arc<Semaphore>,
    /// Compilations of the key at one time: half of all, so that they keep nobody else's waiting
    /// for longer than one takes.
    pub(crate) compilations: Arc<Semaphore>,
    pub(crate) compilations_max: usize,
    /// Memory of the key's guests.
    pub(crate) memory: Arc<Total>,
    /// Images of the key's sessions and jobs, and what else is held for these.
    pub(crate) images: Arc<Total>,
    /// State of one bundle, in bytes: what is saved must be no larger.
    pub(crate) state_max: u64,
    /// Held while an image of the key's is written to the disk: one at a time, so that the others
    /// find the disk free in between.
    pub(crate) keeping: tokio::sync::Mutex<()>,
    /// Held while captures that the key calls with are decoded once for all calls.
    pub(crate) preparing: tokio::sync::Mutex<()>,
    /// Bundles that the key's calls hold, in bytes: half of what all may hold.
    pub(crate) bundles: Arc<Total>,
    pub(crate) charges: Mutex<Charges>,
    /// Memory for arguments.
    pub(crate) arguments: Budget,
    /// Memory for uploads: half of what all keys have, so that none keeps the others out.
    pub(crate) uploads: Budget,
    listed: Mutex<HashMap<u64, (BlobId, String, Instant)>>,
    next: AtomicU64,
}

/// How much of what all keys share one of them may have.
#[derive(Clone, Copy)]
enum Share {
    Half,
    Whole,
}

/// The keys with something under way.
pub(crate) struct Callers {
    keys: Mutex<HashMap<[u8; 32], Weak<KeyState>>>,
    turns: AtomicU64,
    /// Compilations of all keys at one time.
    compilations: usize,
}

impl Callers {
    /// No keys so far, of a host that compiles so many modules at one time.
    pub(crate) fn new(compilations: usize) -> Callers {
        Callers {
            keys: Mutex::default(),
            turns: AtomicU64::new(0),
            compilations,
        }
    }

    /// The caller of this key, with what its line of `authorized_keys` says.
    pub(crate) fn of_key(&self, key: &PublicKey, options: &KeyOptions, limits: &Limits) -> Caller {
        let limits = limits.for_key(options);
        let allowed = Allowed::Named(options.grants.clone());
        self.caller(key.0, limits, allowed, Share::Half)
    }

    /// The user of an embedded host.
    pub(crate) fn embedded(&self, limits: &Limits) -> Caller {
        // There is no other key, so that nothing need be left for one.
        let limits = Limits {
            // One more than there can be, so that the queue of all is what refuses.
            queue_per_key: limits
                .queue
                .saturating_add(limits.instances)
                .saturating_add(1),
            instances_per_key: limits.instances,
            memory_per_key: limits.memory_total,
            ..limits.clone()
        };
        self.caller([0; 32], limits, Allowed::All, Share::Whole)
    }

    fn caller(&self, key: [u8; 32], limits: Limits, allowed: Allowed, share: Share) -> Caller {
        let mut keys = lock(&self.keys);
        let state = keys.get(&key).and_then(Weak::upgrade).unwrap_or_else(|| {
            // Keys that went away are forgotten when another comes.
            keys.retain(|_, state| state.strong_count() > 0);
            let (compilations, bundles) = (self.compilations, limits.bundles_in_use());
            let (compilations_max, bundles_max) = match share {
                Share::Half => ((compilations / 2).max(1), bundles / 2),
                Share::Whole => (compilations, bundles),
            };
            let state = Arc::new(KeyState {
                id: key,
                turn: self.turns.fetch_add(1, Ordering::Relaxed),
                calls: AtomicU32::new(0),
                instances: Places::new(limits.instances_per_key),
                connections: AtomicU32::new(0),
                requests: AtomicU32::new(0),
                loading: Arc::new(Semaphore::new(LOADING_MAX)),
                compilations: Arc::new(Semaphore::new(compilations_max)),
                compilations_max,
                memory: Total::new(limits.memory_per_key),
                images: Total::new(limits.session_images_per_key),
                state_max: limits.state,
                keeping: tokio::sync::Mutex::default(),
                preparing: tokio::sync::Mutex::default(),
                bundles: Total::new(bundles_max),
                charges: Mutex::default(),
                arguments: Budget::new(limits.arguments_per_key),
                uploads: Budget::new(limits.uploads / 2),
                listed: Mutex::default(),
                next: AtomicU64::new(0),
            });
            keys.insert(key, Arc::downgrade(&state));
            state
        });
        // A key that was there before may have another line by now.
        state.instances.resize(limits.instances_per_key);
        let turn = state.turn;
        Caller {
            state,
            limits: Arc::new(limits),
            allowed: Arc::new(allowed),
            turn,
        }
    }
}

impl KeyState {
    /// Whose turn its calls take.
    pub(crate) fn turn(&self) -> Turn {
        self.turn
    }

    /// Lists a call as running until the guard goes.
    pub(crate) fn list(self: &Arc<Self>, bundle: BlobId, callable: &str) -> Listed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.listed).insert(number, (bundle, callable.to_owned(), Instant::now()));
        Listed {
            key: self.clone(),
            number,
        }
    }

    pub(crate) fn running(&self) -> Vec<RunningCall> {
        let listed = lock(&self.listed);
        let mut calls: Vec<_> = listed.iter().collect();
        calls.sort_by_key(|(number, _)| **number);
        calls
            .into_iter()
            .map(|(_, (bundle, callable, since))| RunningCall {
                bundle: *bundle,
                callable: callable.clone(),
                run_ms: millis(since.elapsed()),
            })
            .collect()
    }
}

/// Keeps a call in the list of running ones.
pub(crate) struct Listed {
    key: Arc<KeyState>,
    number: u64,
}

impl Drop for Listed {
    fn drop(&mut self) {
        lock(&self.key.listed).remove(&self.number);
    }
}
