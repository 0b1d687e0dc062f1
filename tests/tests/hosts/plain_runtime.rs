//! Code of guests in a runtime that knows nothing of Spore: it gives the same with what a host adds for
//! itself, a session holds what the same calls leave there, and what was baked goes on there.

use std::path::Path;
use std::process::Command;

use spore_abi::{export, poll};
use spore_bundle::module::{Interior, PRIVATE_START, bake, detach, instrument};
use spore_client::{Bundle, Host, Session, embedded_bundle};
use spore_tests::guests::of;
use spore_tests::kept::WITHIN;
use spore_tests::outcome::until;
use spore_tests::process::program;
use spore_tests::{keeper, plain, resumer};
use spore_value::{Limits, Value, codec};
use wasmi::{Caller, Error, Extern, ExternType, Memory, Val};

/// What the monotonic clock of a guest shows at first, in nanoseconds.
const CLOCK_NS: u64 = 1_000_000_000_000;

/// What `errno` of WASI has for a descriptor that is not open.
const BADF: i32 = 8;

/// What a guest sees of the world, and what it has said to it.
struct World {
    clock_ns: u64,
    output: Vec<u8>,
    /// Random bytes that were drawn, each of which is another.
    drawn: u8,
    /// Checkpoints that were reached. At every third a run is to stop.
    checkpoints: u32,
    fault: String,
}

/// The imports of Spore and of WASI, for a guest without grants.
fn answer(
    name: &str,
    mut caller: Caller<'_, World>,
    given: &[Val],
    answers: &mut [Val],
) -> Result<(), Error> {
    let memory = caller.get_export(export::MEMORY);
    let memory = memory.and_then(Extern::into_memory).expect("exported");
    let number = |index: usize| given[index].i32().expect("an i32").cast_unsigned();
    let mut errno = 0;
    match name {
        "progress" => return Ok(()),
        "fault" => {
            let message = bytes(&caller, memory, number(1), number(2));
            caller.data_mut().fault = String::from_utf8_lossy(&message).into_owned();
            return Ok(());
        }
        "stop_wanted" => {
            let world = caller.data_mut();
            world.checkpoints += 1;
            answers[0] = Val::I32(i32::from(world.checkpoints.is_multiple_of(3)));
            return Ok(());
        }
        "proc_exit" => return Err(Error::new("the guest exits")),
        "environ_get" | "args_get" => {}
        "environ_sizes_get" | "args_sizes_get" => {
            put(&mut caller, memory, number(0), &[0; 4]);
            put(&mut caller, memory, number(1), &[0; 4]);
        }
        "clock_time_get" => {
            let now = caller.data().clock_ns.to_le_bytes();
            put(&mut caller, memory, number(2), &now);
        }
        "random_get" => {
            let drawn: Vec<u8> = (0..number(1))
                .map(|_| {
                    let world = caller.data_mut();
                    world.drawn = world.drawn.wrapping_add(41);
                    world.drawn
                })
                .collect();
            put(&mut caller, memory, number(0), &drawn);
        }
        "fd_write" if number(0) == 1 || number(0) == 2 => {
            let mut written = 0;
            for buffer in 0..number(2) {
                let at = number(1) + 8 * buffer;
                let [from, len] = [at, at + 4].map(|at| word(&caller, memory, at));
                let text = bytes(&caller, memory, from, len);
                caller.data_mut().output.extend(text);
                written += len;
            }
            put(&mut caller, memory, number(3), &written.to_le_bytes());
        }
        // There is no directory, no file and no socket.
        _ => errno = BADF,
    }
    answers[0] = Val::I32(errno);
    Ok(())
}

fn bytes(caller: &Caller<'_, World>, memory: Memory, at: u32, len: u32) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let read = memory.read(caller, at as usize, &mut bytes);
    read.expect("within the memory");
    bytes
}

fn word(caller: &Caller<'_, World>, memory: Memory, at: u32) -> u32 {
    let bytes = bytes(caller, memory, at, 4);
    u32::from_le_bytes(bytes.try_into().expect("four bytes"))
}

fn put(caller: &mut Caller<'_, World>, memory: Memory, at: u32, bytes: &[u8]) {
    let written = memory.write(caller, at as usize, bytes);
    written.expect("within the memory");
}

/// An item that a guest told, or its end: the kind of the poll record, and the bytes.
type Told = (u32, Vec<u8>);

/// An instance in a plain runtime, which is entered by what `docs/ABI.md` says.
struct Plain {
    store: wasmi::Store<World>,
    instance: wasmi::Instance,
}

impl Plain {
    fn new(code: &[u8]) -> Plain {
        let engine = wasmi::Engine::default();
        let module = wasmi::Module::new(&engine, code).expect("valid");
        let mut linker = wasmi::Linker::<World>::new(&engine);
        // The same function may be imported twice.
        linker.allow_shadowing(true);
        for import in module.imports() {
            let ExternType::Func(ty) = import.ty() else {
                panic!("guests import functions and nothing else");
            };
            let name = import.name().to_owned();
            let defined = linker.func_new(
                import.module(),
                import.name(),
                ty.clone(),
                move |caller, given, answers| answer(&name, caller, given, answers),
            );
            defined.expect("it may be defined again");
        }
        let world = World {
            clock_ns: CLOCK_NS,
            output: Vec::new(),
            drawn: 0,
            checkpoints: 0,
            fault: String::new(),
        };
        let mut store = wasmi::Store::new(&engine, world);
        let instance = linker.instantiate_and_start(&mut store, &module);
        let instance = instance.expect("nothing traps");
        Plain { store, instance }
    }

    /// An instance of a bundle's code, as it came or rewritten, after what runs before any call.
    fn begun(bundle: &Bundle, code: &[u8]) -> Plain {
        let mut plain = Plain::new(code);
        let init = bundle.inner().manifest().init.as_deref();
        for name in [Some(PRIVATE_START), Some(export::INITIALIZE), init] {
            if let Some(name) = name.filter(|name| plain.has(name)) {
                plain.enter::<(), ()>(name, ());
            }
        }
        plain
    }

    fn has(&self, name: &str) -> bool {
        self.instance.get_export(&self.store, name).is_some()
    }

    fn enter<P, R>(&mut self, name: &str, parameters: P) -> R
    where
        P: wasmi::WasmParams,
        R: wasmi::WasmResults,
    {
        let function = self.instance.get_typed_func::<P, R>(&self.store, name);
        let function = function.unwrap_or_else(|error| panic!("{name}: {error}"));
        match function.call(&mut self.store, parameters) {
            Ok(results) => results,
            Err(error) => panic!("{name}: {error}; {}", self.store.data().fault),
        }
    }

    fn exported_memory(&self) -> Memory {
        let memory = self.instance.get_memory(&self.store, export::MEMORY);
        memory.expect("exported")
    }

    fn memory(&self) -> &[u8] {
        self.exported_memory().data(&self.store)
    }

    fn bytes(&self, at: u32, len: u32) -> &[u8] {
        &self.memory()[at as usize..][..len as usize]
    }

    fn word(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.bytes(at, 4).try_into().expect("four bytes"))
    }

    fn pass(&mut self, bytes: &[u8]) -> (u32, u32) {
        let len = bytes.len() as u32;
        if len == 0 {
            return (0, 0);
        }
        let at: u32 = self.enter(export::ALLOC, (len, 1_u32));
        let memory = self.exported_memory();
        let passed = memory.write(&mut self.store, at as usize, bytes);
        passed.expect("the guest has made room");
        (at, len)
    }

    /// A run of a callable, from its captures to its end.
    fn run(&mut self, name: &str, captures: &[u8], arguments: &[u8]) -> Vec<Told> {
        let captures = self.pass(captures);
        let handle: u32 = self.enter(&format!("{}{name}", export::BIND), captures);
        let told = self.run_bound(name, handle, arguments);
        self.enter::<u32, ()>(export::UNBIND, handle);
        told
    }

    /// The same, of captures that are bound.
    fn run_bound(&mut self, name: &str, handle: u32, arguments: &[u8]) -> Vec<Told> {
        let (at, len) = self.pass(arguments);
        let task: u32 = self.enter(&format!("{}{name}", export::START), (handle, at, len));
        let told = self.poll(task);
        self.enter::<u32, ()>(export::DROP, task);
        told
    }

    /// Polls a task to its end.
    fn poll(&mut self, task: u32) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            let record: u32 = self.enter(export::POLL, task);
            let [kind, at, len] = [0, 4, 8].map(|field| self.word(record + field));
            match kind {
                poll::YIELD => {}
                poll::WAIT => {
                    let until = self.bytes(record + 16, 8).try_into();
                    let until = u64::from_le_bytes(until.expect("eight bytes"));
                    // Time passes at once.
                    let world = self.store.data_mut();
                    world.clock_ns = world.clock_ns.max(until);
                }
                kind => {
                    told.push((kind, self.bytes(at, len).to_vec()));
                    if kind != poll::ITEM {
                        return told;
                    }
                }
            }
        }
    }

    /// A call that gives a value of this type.
    fn call<R: Value>(&mut self, name: &str, arguments: &impl Value) -> R {
        let arguments = encoded(arguments);
        value(&self.run(name, &[], &arguments))
    }
}

fn encoded(value: &impl Value) -> Vec<u8> {
    codec::encode(value).expect("it is encodable")
}

/// The value that a run has ended with.
fn value<R: Value>(told: &[Told]) -> R {
    let [(poll::READY, bytes)] = told else {
        panic!("expected a value, got {told:?}");
    };
    codec::decode(bytes, &Limits::default()).expect("a value of the type")
}

/// A callable, its captures and its arguments.
type Step = (&'static str, Vec<u8>, Vec<u8>);

fn step(name: &'static str, captures: impl Value, arguments: impl Value) -> Step {
    (name, encoded(&captures), encoded(&arguments))
}

/// What the `risk` example captures.
fn risk_captures() -> (risk::Portfolio, risk::History) {
    let stocks = include_str!("../../../examples/risk/data/stocks.csv");
    let history = risk::Prices::parse(stocks).and_then(|prices| prices.history());
    (risk::Portfolio::example(), history.expect("it is whole"))
}

/// Guests, with calls of which each sees what those before it have left.
fn guests() -> Vec<(Bundle, Vec<Step>)> {
    let text = str::to_owned;
    let plain_steps = vec![
        step("plain::iterate", (), (0.25_f64, 2_000_u32)),
        step("plain::nan_bits", (), (0.0_f64, -1.0_f64)),
        step("plain::map_order", (), (50_u32,)),
        step("plain::random", (), ()),
        step("plain::clocks", (), ()),
        step("plain::environment", (), ()),
        step("plain::half", (), (7_u32,)),
        step("plain::half_a_line", (), (false,)),
        step("plain::append", (vec![1_u8, 2],), (vec![3_u8; 300],)),
        step("plain::weigh", (vec![7_u8; 100_000],), ()),
        step("plain::open_anything", (), (text("/etc/passwd"),)),
    ];
    let counter_steps = vec![
        step("counter::add", (), (5_i64,)),
        step("counter::add", (), (-7_i64,)),
        step("counter::history", (), ()),
    ];
    let keeper_steps = vec![
        step("keeper::remember", (), (text("one"),)),
        step("keeper::fill", (), (300_000_u32,)),
        step("keeper::poke", (), (5_u32, 1_u8)),
        step("keeper::remember", (), (text("two"),)),
        step("keeper::check", (), ()),
        step("keeper::draw", (), ()),
        step("keeper::draw", (), ()),
        step("keeper::recall_between", (text("<"), text(">")), ()),
        step("keeper::consume", (text("gone"),), ()),
        step("keeper::fill", (), (10_u32,)),
        step("keeper::check", (), ()),
    ];
    let weights = vec![1.0_f64, 2.5, -3.0];
    let names = vec![text("a"), text("b")];
    let resumer_steps = vec![
        step("resumer::looked_up", (), (9_u32,)),
        step("resumer::rounds", (), (100_u32,)),
        step("resumer::sorted", (vec![3_u8, 1], 9_u8), (vec![5_u8, 4],)),
        step("resumer::entwined", (weights,), (7_u64, 40_u32)),
        step("resumer::by_futures", (), (7_u64, 60_u32)),
        step("resumer::naps", (), (vec![30_u64, 10, 20],)),
        step("resumer::nap_or_rounds", (), (5_u64, 3_u32)),
        step("resumer::told", (), (3_u32,)),
        step("resumer::handed_over", (), (3_u32,)),
        step("resumer::pairs", (names,), (3_u32,)),
        step("resumer::halves", (), (12_u32,)),
        step("resumer::digits", (), (text("2026"),)),
        step("resumer::multiples", (7_u64,), (3_u64, 20_u32)),
    ];
    let risk_steps = vec![step("risk::monte_carlo", risk_captures(), (200_u32, 7_u64))];
    vec![
        (plain().clone(), plain_steps),
        (embedded_bundle!("counter"), counter_steps),
        (keeper().clone(), keeper_steps),
        (resumer().clone(), resumer_steps),
        (embedded_bundle!("risk"), risk_steps),
    ]
}

#[test]
fn guests_compute_the_same_with_what_a_host_adds() {
    for (bundle, steps) in guests() {
        let code = bundle.inner().code();
        let interior = Interior::read(code).expect("valid");
        let rewritten = instrument(code, &interior).expect("it has no private names");
        let mut one = Plain::begun(&bundle, code);
        let mut other = Plain::begun(&bundle, &rewritten);
        for (name, captures, arguments) in &steps {
            let expected = one.run(name, captures, arguments);
            let (end, _) = expected.last().expect("a run ends");
            assert!([poll::READY, poll::ERROR].contains(end), "{name}");
            assert_eq!(other.run(name, captures, arguments), expected, "{name}");
            assert!(one.memory() == other.memory(), "memory after {name}");
        }
        let said = |plain: &Plain| {
            let world = plain.store.data();
            (world.output.clone(), world.drawn, world.checkpoints)
        };
        assert_eq!(said(&one), said(&other));
        assert_eq!(one.store.data().clock_ns, other.store.data().clock_ns);
    }
}

/// This runtime is none that agrees with everything: what a native program computes, it gives too.
#[test]
fn a_plain_runtime_gives_the_figures_of_a_native_program() {
    let (portfolio, history) = risk_captures();
    let expected = risk::monte_carlo(&portfolio, &history, 200, 7);
    let bundle = embedded_bundle!("risk");
    let mut plain = Plain::begun(&bundle, bundle.inner().code());
    let captures = encoded(&(portfolio, history));
    let told = plain.run("risk::monte_carlo", &captures, &encoded(&(200_u32, 7_u64)));
    assert_eq!(Ok(value(&told)), expected);
}

fn embedded() -> Host {
    Host::embedded().expect("the engine starts")
}

async fn open(host: &Host, bundle: &Bundle) -> Session {
    host.open_session(bundle).await.expect("it can be opened")
}

/// A module that begins as a saved bundle left off.
fn baked(saved: &Bundle) -> Vec<u8> {
    let bundle = saved.inner();
    let image = bundle.image().expect("it was saved");
    let baked = bake(bundle.code(), image).and_then(detach);
    let baked = baked.expect("it fits");
    let module = wasmi::Module::new(&wasmi::Engine::default(), &baked).expect("valid");
    for import in module.imports() {
        assert_eq!(
            import.module(),
            "wasi_snapshot_preview1",
            "{}",
            import.name()
        );
    }
    baked
}

/// The same, as a person makes it: of a file, with the command.
fn baked_by_command(folder: &Path, saved: &Bundle) -> Vec<u8> {
    let [from, to] = ["saved.spore", "baked.wasm"].map(|name| folder.join(name));
    std::fs::write(&from, saved.inner().encode()).expect("written");
    let output = Command::new(program())
        .arg("bake")
        .arg(&from)
        .arg("-o")
        .arg(&to)
        .env("SPORE_HOME", folder)
        .output()
        .expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    std::fs::read(&to).expect("it was written")
}

#[tokio::test]
async fn a_session_holds_what_the_same_calls_leave_in_a_plain_runtime() {
    let host = embedded();
    let counter = embedded_bundle!("counter");
    let session = open(&host, &counter).await;
    let mut plain = Plain::begun(&counter, counter.inner().code());
    for n in [5, -7, i64::MAX] {
        let call = session.call(counter::add::HANDLE, (n,));
        let sum = call.expect("it is there").await.expect("added");
        let expected: i64 = plain.call("counter::add", &(n,));
        assert_eq!(sum, expected);
    }
    let saved = session.save().await.expect("saved");
    assert!(Plain::new(&baked(&saved)).memory() == plain.memory());

    let session = open(&host, keeper()).await;
    let mut plain = Plain::begun(keeper(), keeper().inner().code());
    for word in ["one", "two"] {
        let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
        let count = call.expect("it is there").await.expect("remembered");
        let expected: u32 = plain.call("keeper::remember", &(word.to_owned(),));
        assert_eq!(count, expected);
    }
    let call = session.call(keeper::fill::HANDLE, (1 << 20,));
    call.expect("it is there").await.expect("filled");
    plain.call::<()>("keeper::fill", &(1_u32 << 20,));
    let saved = session.save().await.expect("saved");
    assert!(Plain::new(&baked(&saved)).memory() == plain.memory());
}

#[tokio::test]
async fn a_saved_session_goes_on_without_spore() {
    let folder = tempfile::tempdir().expect("a folder for tests");
    let host = embedded();
    let session = open(&host, &embedded_bundle!("counter")).await;
    for n in [5, -7] {
        let call = session.call(counter::add::HANDLE, (n,));
        call.expect("it is there").await.expect("added");
    }
    let saved = session.save().await.expect("saved");
    let module = baked_by_command(folder.path(), &saved);
    assert!(module == baked(&saved), "the command makes another");
    for _ in 0..3 {
        let mut plain = Plain::new(&module);
        for gone in [export::INITIALIZE, PRIVATE_START] {
            assert!(!plain.has(gone), "{gone}");
        }
        let history: Vec<i64> = plain.call("counter::history", &());
        assert_eq!(history, [5, -7]);
        assert_eq!(plain.call::<i64>("counter::add", &(10_i64,)), 8);
        let history: Vec<i64> = plain.call("counter::history", &());
        assert_eq!(history, [5, -7, 10]);
    }
}

#[tokio::test]
async fn captures_and_memory_are_in_a_module_that_was_baked() {
    let bound = keeper()
        .callable(keeper::recall_between::HANDLE)
        .expect("it is there")
        .capture(&("<".to_owned(), ">".to_owned()))
        .expect("captured");
    let host = embedded();
    let session = open(&host, &bound.bundle()).await;
    for word in ["a", "b"] {
        let call = session.call(keeper::remember::HANDLE, (word.to_owned(),));
        call.expect("it is there").await.expect("remembered");
    }
    // More memory than the code begins with.
    let call = session.call(keeper::fill::HANDLE, (3 << 20,));
    call.expect("it is there").await.expect("filled");
    let call = session.call(keeper::check::HANDLE, ());
    let sum = call.expect("it is there").await.expect("checked");
    let saved = session.save().await.expect("saved");
    let image = saved.inner().image().expect("it was saved");
    let handle = image.index().bound[0].handle;
    let module = baked(&saved);
    for _ in 0..2 {
        let mut plain = Plain::new(&module);
        assert_eq!(plain.call::<u64>("keeper::check", &()), sum);
        for _ in 0..2 {
            let told = plain.run_bound("keeper::recall_between", handle, &[]);
            let between: Vec<String> = value(&told);
            assert_eq!(between, ["<", "a", "b", ">"]);
        }
        let word = ("c".to_owned(),);
        assert_eq!(plain.call::<u32>("keeper::remember", &word), 3);
        assert_eq!(plain.store.data().output, b"remembering c\n");
        plain.call::<()>("keeper::poke", &(2_u32 << 20, 1_u8));
        assert_ne!(plain.call::<u64>("keeper::check", &()), sum);
    }
}

#[tokio::test]
async fn what_an_initialiser_left_is_in_a_module_that_was_baked() {
    let host = embedded();
    let session = open(&host, resumer()).await;
    let call = session.call(resumer::looked_up::HANDLE, (5,));
    let found = call.expect("it is there").await.expect("it runs");
    assert_eq!(found, (Some(25), 0));
    let saved = session.save().await.expect("saved");
    let restored = saved.inner().manifest().restored.clone();
    let restored = restored.expect("the guest wants to know");
    let mut plain = Plain::new(&baked(&saved));
    for times in 0..3_u32 {
        let found: (Option<u32>, u32) = plain.call("resumer::looked_up", &(99_u32,));
        assert_eq!(found, (Some(9801), times));
        // It is the runtime's to say, and it may be said again.
        plain.enter::<(), ()>(&restored, ());
    }
}

#[tokio::test]
async fn a_saved_run_goes_on_without_spore() {
    const ROUNDS: u32 = 1_000;
    let host = embedded();
    let told = of(resumer(), resumer::told::HANDLE);
    let job = host.start(&told, (ROUNDS,)).await.expect("started");
    until("it has begun", || async {
        job.info().await.expect("it is listed").done > 0
    })
    .await;
    job.pause(WITHIN).await.expect("it sleeps most of the time");
    let done = job.info().await.expect("it is listed").done;
    assert!(done < u64::from(ROUNDS), "it is to stop on its way");
    let saved = job.save(WITHIN).await.expect("it stands still");
    let image = saved.inner().image().expect("it was saved");
    let run = image.index().run.expect("it is under way");
    let module = baked(&saved);
    for _ in 0..2 {
        let mut plain = Plain::new(&module);
        plain.store.data_mut().clock_ns = image.index().clock_ns;
        assert_eq!(value::<u32>(&plain.poll(run.task)), ROUNDS);
        // Every round that it had not said before it stood still, and no other.
        let said: String = (done + 1..=u64::from(ROUNDS))
            .map(|round| format!("round {round}\n"))
            .collect();
        let heard = String::from_utf8_lossy(&plain.store.data().output);
        assert_eq!(heard, said);
        // A rest for each of them, and what was left of the one before.
        let rested = plain.store.data().clock_ns - image.index().clock_ns;
        let rounds = u64::from(ROUNDS) - done;
        assert!((rounds..=rounds + 1).contains(&(rested / 10_000_000)));
    }
    job.cancel().await.expect("it is there");
    job.acknowledge().await.expect("it has ended");
}
