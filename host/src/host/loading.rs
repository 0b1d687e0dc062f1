//! Bundles that are made ready to run: found in memory or compiled, with what is done once for all of
//! their instances.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spore_bundle::{Bundle, BundleId, CodeId, Image};
use spore_transport::RefusalCode;
use spore_transport::message::{CallLimits, Refused};

use super::Host;
use crate::bundles::{self, Bundles, Charge, Loaded};
use crate::callers::Caller;
use crate::code::{self, Code, Hook, Ready};
use crate::compiler::Beginning;
use crate::prepare::{Preparation, Task};
use crate::scheduler::lock;
use crate::work::{Slots, Ticket, slots};

impl Host {
    /// The bundle as it was loaded before, if it is kept. Says nothing of who may use it.
    ///
    /// # Errors
    ///
    /// Refuses when the caller holds too many others.
    pub fn loaded(&self, caller: &Caller, id: BundleId) -> Result<Option<Arc<Loaded>>, Refused> {
        if let Some(loaded) = self.held(caller, id) {
            return Ok(Some(loaded));
        }
        let (loaded, _) = self.on_bundles(|bundles| bundles.get(&caller.state, &id));
        let loaded = loaded?;
        if let Some(loaded) = &loaded {
            self.inner.compiler.used(&loaded.ready().code);
        }
        Ok(loaded)
    }

    /// Works on the bundles in memory. What they let go is freed beside, without their lock; also
    /// gives what to wait for until it is.
    fn on_bundles<T>(
        &self,
        work: impl FnOnce(&mut Bundles) -> T,
    ) -> (T, Option<tokio::task::JoinHandle<()>>) {
        let mut bundles = lock(&self.inner.loaded);
        let done = work(&mut bundles);
        let gone = bundles.take_gone();
        drop(bundles);
        if gone.is_empty() {
            return (done, None);
        }
        let freeing = self.background().spawn_blocking(move || drop(gone));
        (done, Some(freeing))
    }

    /// The Wasm of code that is compiled and kept, if a bundle shares it. Says nothing of who may use
    /// it.
    pub(crate) fn wasm(&self, id: &CodeId) -> Option<Bytes> {
        self.inner.compiler.wasm(id)
    }

    /// The bundle, if a call of the caller's holds it at this moment: then the caller may use it.
    pub(crate) fn held(&self, caller: &Caller, id: BundleId) -> Option<Arc<Loaded>> {
        bundles::lent(&caller.state, &id)
    }

    /// Compiles the bundle's code, unless it is kept, and keeps the result. Also says how long the
    /// compilation took, or how long another call's was waited for.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// Refuses a bundle past the limits of the host, and code that cannot run here.
    pub async fn load(
        &self,
        caller: &Caller,
        bundle: &Bundle,
    ) -> Result<(Arc<Loaded>, Duration), Refused> {
        let inner = &self.inner;
        if let Some(loaded) = self.loaded(caller, bundle.id())? {
            return Ok((loaded, Duration::ZERO));
        }
        let charge = self.admit_bundle(caller, bundle).await?;
        let began = Instant::now();
        let key = &caller.state;
        let compiling = inner
            .compiler
            .load(key, bundle.clone(), Beginning::Prepared);
        let (mut ready, mut took) = compiling.await?;
        if bundle.image().is_none()
            && let Some(init) = &bundle.manifest().init
        {
            ready = self.initialised(caller, ready, init).await?;
            took = began.elapsed();
        }
        let (loaded, freeing) = self.on_bundles(|bundles| bundles.put(key, ready, charge));
        if let Some(freeing) = freeing {
            let _ = freeing.await;
        }
        Ok((loaded, took))
    }

    /// The same without the bundle's image and without what its initialiser leaves: for an instance
    /// of which an image can be taken.
    pub(super) async fn load_plain(
        &self,
        caller: &Caller,
        bundle: &Bundle,
    ) -> Result<(Arc<Loaded>, Duration), Refused> {
        if bundle.image().is_none() && bundle.manifest().init.is_none() {
            return self.load(caller, bundle).await;
        }
        if let Some(loaded) = bundles::plain(&caller.state, &bundle.id()) {
            return Ok((loaded, Duration::ZERO));
        }
        let charge = self.admit_bundle(caller, bundle).await?;
        let compiler = &self.inner.compiler;
        let compiling = compiler.load(&caller.state, bundle.clone(), Beginning::Plain);
        let (ready, took) = compiling.await?;
        Ok((Loaded::plain(&caller.state, ready, charge), took))
    }

    /// Refuses a bundle past the limits, and takes the room for it.
    async fn admit_bundle(&self, caller: &Caller, bundle: &Bundle) -> Result<Arc<Charge>, Refused> {
        let limits = &self.inner.limits;
        let code = bundle.code().len() as u64;
        if code > limits.code {
            return Err(Refused::new(RefusalCode::CodeTooLarge, "").past(limits.code, code));
        }
        let state = bundle.state().map_or(0, |state| state.len() as u64);
        if state > limits.state {
            let refused = Refused::new(RefusalCode::StateTooLarge, "");
            return Err(refused.past(limits.state, state));
        }
        let bytes = code::bytes(bundle);
        let charge = Charge::take(&caller.state, bundle.id(), bytes)?;
        if let ((), Some(freeing)) = self.on_bundles(|bundles| bundles.make_room(bytes)) {
            // What is not free yet still counts.
            let _ = freeing.await;
        }
        lock(&self.inner.loaded).check_room(bytes)?;
        Ok(charge)
    }

    /// The bundle as it is after its initialiser, which runs unless what it leaves is kept. Code that
    /// has no images runs it in each instance.
    async fn initialised(
        &self,
        caller: &Caller,
        ready: Ready,
        init: &str,
    ) -> Result<Ready, Refused> {
        let Ready { bundle, code, .. } = ready;
        let hook = code.hook(init)?;
        if code.interior.check_imageable().is_err() {
            let hook = Hook::Init(hook, bundle.code_id());
            return self.inner.compiler.ready(bundle, code, Some(hook));
        }
        let initialised = self.initialise(caller, &bundle, code, init).await?;
        self.inner.compiler.ready(bundle, initialised, None)
    }

    /// What the initialiser of a bundle leaves, for an instance of the code as it is; nothing when it
    /// has none. Such instances have images.
    pub(super) async fn initial(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        loaded: &Loaded,
    ) -> Result<Option<Image>, Refused> {
        let init = bundle.manifest().init.as_deref();
        let Some(init) = init.filter(|_| bundle.image().is_none()) else {
            return Ok(None);
        };
        let code = loaded.ready().code.clone();
        let initialised = self.initialise(caller, bundle, code, init).await?;
        Ok(initialised.initial().cloned())
    }

    /// The code as it is after its initialiser, which runs unless what it leaves is kept.
    async fn initialise(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        code: Arc<Code>,
        init: &str,
    ) -> Result<Arc<Code>, Refused> {
        let hook = code.hook(init)?;
        let kept = lock(&code.initialised)
            .entry(init.to_owned())
            .or_default()
            .clone();
        // Whoever wants what another has begun waits here, and finds it done.
        if let Some(initialised) = kept.clone().lock_owned().await.upgrade() {
            return Ok(initialised);
        }
        // Nobody else waits while this waits for a place of its own.
        let slots = self.slots_in_queue(caller).await?;
        let mut kept = kept.lock_owned().await;
        if let Some(initialised) = kept.upgrade() {
            return Ok(initialised);
        }
        let (host, caller, bundle) = (self.clone(), caller.clone(), bundle.clone());
        // Once it has begun, whoever waits for it or not: it is to run once, also for those who have not
        // the time to wait until it is over.
        self.to_the_end(async move {
            let task = Task::Initialise(hook);
            let prepared = host.prepare(&caller, &bundle, code, task, slots).await;
            let (image, slots) = prepared?;
            let compiler = &host.inner.compiler;
            let compiling = compiler.load_initialised(&caller.state, &bundle, image);
            let initialised = compiling.await?;
            *kept = Arc::downgrade(&initialised);
            // Until the image counts otherwise it does so by these.
            drop(slots);
            Ok(initialised)
        })
        .await
    }

    /// Places for an instance in which something is prepared, among the caller's calls.
    async fn slots_in_queue(&self, caller: &Caller) -> Result<(Slots, Ticket), Refused> {
        let inner = &self.inner;
        let mut ticket = Ticket::queue(&inner.counters, inner.limits.queue, caller)?;
        let slots = slots(&caller.state, &inner.instances).await;
        ticket.begin();
        Ok((slots, ticket))
    }

    /// An image of what a fresh instance of the bundle's code is after this. Gives the place back that
    /// it was given for that.
    async fn prepare<P: Send + 'static>(
        &self,
        caller: &Caller,
        bundle: &Bundle,
        code: Arc<Code>,
        task: Task,
        place: P,
    ) -> Result<(Image, P), Refused> {
        let preparation = Preparation {
            means: self.inner.means(),
            key: caller.state.clone(),
            id: bundle.code_id(),
            code,
            task,
            limits: caller.limits.for_call(&CallLimits::default()),
        };
        let preparing = async move { Ok((preparation.run().await?, place)) };
        self.on_worker(caller.turn, preparing).await?
    }

    /// Has the captures of a bundle decoded once, for calls that begin after that is done.
    pub(super) fn prepare_captures(&self, caller: &Caller, used: &Arc<Loaded>) {
        let (host, caller, used) = (self.clone(), caller.clone(), used.clone());
        self.background().spawn(async move {
            if let Err(why) = host.with_captures(&caller, &used).await {
                let bundle = used.bundle().id();
                tracing::info!(%bundle, %why, "each call decodes its captures");
            }
        });
    }

    async fn with_captures(&self, caller: &Caller, used: &Loaded) -> Result<(), Refused> {
        let bundle = used.bundle();
        // One of a key at a time: an image is charged to nobody before it is known how large it is.
        // Whoever finds it taken tries anew after as many calls.
        let Ok(_turn) = caller.state.preparing.try_lock() else {
            return Ok(());
        };
        if used.ready().is_prepared() {
            return Ok(());
        }
        let Some((callable, captures)) = bundle.captures() else {
            return Ok(());
        };
        let began = Instant::now();
        let (loaded, _) = self.load_plain(caller, bundle).await?;
        let initial = self.initial(caller, bundle, &loaded).await?;
        let task = Task::Bind {
            loaded: loaded.clone(),
            callable,
            initial,
        };
        let code = loaded.ready().code.clone();
        // It is in nobody's queue: the host does it by itself.
        let slots = slots(&caller.state, &self.inner.instances).await;
        let prepared = self.prepare(caller, bundle, code, task, slots).await;
        let (image, _slots) = prepared.inspect_err(|why| {
            // Anything else stays so.
            if !matches!(
                why.code,
                RefusalCode::QueueFull | RefusalCode::ShuttingDown | RefusalCode::Memory
            ) {
                used.ready().never_prepare();
            }
        })?;
        let decoding = began.elapsed();
        // Compiled code has it, and wasmtime once more as what instances map.
        let bytes = 2 * image.changed_bytes();
        let Some(bound) = image.index().bound.first().copied() else {
            return Ok(());
        };
        let compiler = &self.inner.compiler;
        let room = match compiler.prepared_room(bytes) {
            Ok(room) => room,
            Err(why) if why.limit.is_some_and(|limit| bytes > limit) => {
                used.ready().never_prepare();
                return Err(why);
            }
            Err(_) => {
                if let ((), Some(freeing)) = self.on_bundles(Bundles::let_prepared_go) {
                    // What is not free yet still counts.
                    let _ = freeing.await;
                }
                compiler.prepared_room(bytes)?
            }
        };
        let compiling = compiler.load_prepared(&caller.state, bundle, image, room);
        let (code, room, compiling) = compiling.await?;
        used.ready().prepare(code, bound, room)?;
        tracing::info!(
            bundle = %bundle.id(),
            captures = captures.len(),
            memory = bytes,
            ?decoding,
            ?compiling,
            "captures are decoded once for all calls"
        );
        Ok(())
    }
}
