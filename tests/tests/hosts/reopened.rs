//! Granted directories of a guest that was restored: each is open again under the number by which
//! the guest knows it, or nothing of the guest runs.

use std::future::IntoFuture;
use std::path::Path;

use serde_json::{Value as Json, json};
use spore_bundle::Grant;
use spore_bundle::image::{Image, Index};
use spore_client::{Bundle, Host, JobState, RefusalCode, Refused, Session, SessionState};
use spore_host::{Grants, Setup};
use spore_tests::module::{Raw, bundle_with, record};
use spore_tests::outcome::{refused, soon, until};
use spore_tests::{Local, Process};
use spore_value::Type;
use tempfile::TempDir;

/// Names of directories, of three letters each.
const ONE: &str = "one";
const TWO: &str = "two";

/// The first number of a directory.
const FIRST: u32 = 3;

/// How many numbers the guest looks at.
const NUMBERS: u32 = 3;

/// Where the guest leaves what it has seen, and bytes for each number: two answers of WASI, and the
/// name and the file behind them.
const SEEN: u32 = 256;
const SEEN_BYTES: u32 = 16;

/// A guest whose callables `raw::run` and `raw::second` ask for these directories, and give what is
/// open under the first numbers: the name, and what stands in the file `who`.
fn asking(run: &[&str], second: &[&str]) -> Bundle {
    let import = |name: &str, function: &str, types: &str| {
        format!(
            r#"(import "wasi_snapshot_preview1" "{name}"
                 (func ${function} (param {types}) (result i32)))"#
        )
    };
    let look = |number: u32| {
        let at = SEEN + SEEN_BYTES * (number - FIRST);
        let (opened, name, file) = (at + 1, at + 8, at + 12);
        // What is opened at 600, a list of one buffer at 608, and how much was read at 604.
        format!(
            "(i32.store8 (i32.const {at})
               (call $name (i32.const {number}) (i32.const {name}) (i32.const 4)))
             (i32.store8 (i32.const {opened})
               (call $open (i32.const {number}) (i32.const 0) (i32.const 560) (i32.const 3)
                 (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 600)))
             (if (i32.eqz (i32.load8_u (i32.const {opened}))) (then
               (i32.store (i32.const 608) (i32.const {file}))
               (i32.store (i32.const 612) (i32.const 4))
               (drop (call $read (i32.load (i32.const 600)) (i32.const 608) (i32.const 1)
                 (i32.const 604)))
               (drop (call $close (i32.load (i32.const 600))))))"
        )
    };
    let looks: String = (FIRST..FIRST + NUMBERS).map(look).collect();
    let bytes = NUMBERS * SEEN_BYTES;
    let raw = Raw {
        imports: [
            import("fd_prestat_dir_name", "name", "i32 i32 i32"),
            import("path_open", "open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
            import("fd_read", "read", "i32 i32 i32 i32"),
            import("fd_close", "close", "i32"),
        ]
        .concat(),
        more: r#"(data (i32.const 560) "who")
          (func (export "spore1:bind/raw::second") (param i32 i32) (result i32) (i32.const 0))
          (func (export "spore1:start/raw::second") (param i32 i32 i32) (result i32)
            (i32.const 0))"#
            .to_owned(),
        poll: format!(
            "(memory.fill (i32.const {SEEN}) (i32.const 0) (i32.const {bytes})) {looks} {}",
            record(0, SEEN, bytes)
        ),
        ..Raw::default()
    };
    let grants = |names: &[&str]| -> Vec<Grant> {
        let names = names.iter().map(|name| (*name).to_owned());
        names.map(Grant::Directory).collect()
    };
    bundle_with(raw.code(), |manifest| {
        let first = &mut manifest.callables[0];
        first.resumable = true;
        first.signature.returns = Type::Array(Box::new(Type::U8), bytes);
        let mut other = first.clone();
        first.grants = grants(run);
        other.name = "raw::second".to_owned();
        other.grants = grants(second);
        manifest.callables.push(other);
    })
}

/// The directories that the guest has found, in the order of their numbers.
fn found(seen: &Json) -> Vec<String> {
    let bytes = seen.as_array().expect("an array").iter();
    let bytes: Vec<u8> = bytes
        .map(|byte| byte.as_u64().expect("a byte") as u8)
        .collect();
    let numbers = bytes.chunks(SEEN_BYTES as usize);
    let open = numbers.take_while(|seen| seen[0] == 0);
    open.map(|seen| {
        let text = |from: usize| String::from_utf8_lossy(&seen[from..from + 4]).into_owned();
        let name = text(8).trim_start_matches('/').to_owned();
        assert_eq!((seen[1], text(12)), (0, format!("{name}.")));
        name
    })
    .collect()
}

/// Two directories, with a file in each that tells them apart.
fn folders() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for tests");
    for name in [ONE, TWO] {
        let directory = folder.path().join(name);
        std::fs::create_dir(&directory).expect("made");
        std::fs::write(directory.join("who"), format!("{name}.")).expect("written");
    }
    folder
}

fn setup(folder: &Path, names: &[&str]) -> Setup {
    let directories = names
        .iter()
        .map(|name| ((*name).to_owned(), folder.join(name)));
    Setup {
        grants: Grants {
            directories: directories.collect(),
        },
        ..Setup::default()
    }
}

/// A host that has both directories, for keys that have both, the second, and the first.
fn start(folder: &Path) -> Local {
    let keys = ["grants=one,two", "grants=two", "grants=one"];
    Local::start(setup(folder, &[ONE, TWO]), &keys)
}

/// The same in this process, with what it has of them.
fn embedded(folder: &Path, names: &[&str]) -> Host {
    Host::embedded_with(setup(folder, names)).expect("the engine starts")
}

async fn open(host: &Host, bundle: &Bundle) -> Session {
    host.open_session(bundle).await.expect("it can be opened")
}

async fn look(session: &Session, callable: &str) -> Vec<String> {
    let call = session.call(callable, json!([""])).expect("it is there");
    let seen = soon("the guest", call.into_future()).await;
    found(&seen.expect("it looks"))
}

fn directories(saved: &Bundle) -> &[String] {
    &saved
        .inner()
        .image()
        .expect("it was saved")
        .index()
        .directories
}

/// With what an image is refused that lacks a directory: as it is opened.
async fn refused_to_open(host: &Host, image: &Bundle) -> Refused {
    refused(host.open_session(image).await, RefusalCode::GrantNotGiven)
}

#[tokio::test]
async fn directories_are_open_again_under_their_numbers() {
    let folder = folders();
    let local = start(folder.path());
    let hosts = [local.connect(0).await, embedded(folder.path(), &[ONE, TWO])];
    let bundle = asking(&[TWO, ONE], &[]);
    for host in &hosts {
        let session = open(host, &bundle).await;
        assert_eq!(look(&session, "run").await, [TWO, ONE]);
        let saved = session.save().await.expect("nothing is left open");
        assert_eq!(directories(&saved), [TWO, ONE]);
        until("the session rests", || async {
            let sessions = host.sessions().await.expect("listed");
            let own = sessions.iter().find(|it| it.session == session.id());
            own.expect("it is open").state == SessionState::Resting
        })
        .await;
        assert_eq!(look(&session, "run").await, [TWO, ONE]);
        session.restore().await.expect("restored");
        assert_eq!(look(&session, "run").await, [TWO, ONE]);
        for other in &hosts {
            let copy = open(other, &saved).await;
            // A session has what any of its callables asks for.
            for callable in ["run", "second"] {
                assert_eq!(look(&copy, callable).await, [TWO, ONE]);
            }
            let again = copy.save().await.expect("saved");
            assert_eq!(again.inner().state_id(), saved.inner().state_id());
        }
    }
}

#[tokio::test]
async fn the_order_is_that_of_the_image() {
    let folder = folders();
    let local = start(folder.path());
    let hosts = [local.connect(0).await, embedded(folder.path(), &[ONE, TWO])];
    let bundle = asking(&[TWO, ONE], &[]);
    for host in &hosts {
        let session = open(host, &bundle).await;
        let saved = session.save().await.expect("saved");
        let image = saved.inner().image().expect("it was saved");
        // As from a host that has given them in another order.
        let index = Index {
            directories: vec![ONE.to_owned(), TWO.to_owned()],
            ..image.index().clone()
        };
        let blocks = image
            .blocks()
            .map(|(number, id, block)| (number, *id, block.clone()));
        let image = Image::new(index, blocks.collect()).expect("sound");
        let other = Bundle::from(bundle.inner().with_image(image).expect("it belongs"));
        let copy = open(host, &other).await;
        assert_eq!(look(&copy, "run").await, [ONE, TWO]);
        let again = copy.save().await.expect("saved");
        assert_eq!(directories(&again), [ONE, TWO]);
        assert_eq!(look(&session, "run").await, [TWO, ONE]);
    }
}

#[tokio::test]
async fn what_is_granted_besides_comes_behind() {
    let folder = folders();
    let local = start(folder.path());
    let bundle = asking(&[ONE], &[TWO]);
    // Without the first directory the second has the first number.
    let few = open(&local.connect(1).await, &bundle).await;
    assert_eq!(look(&few, "second").await, [TWO]);
    let saved = few.save().await.expect("saved");
    assert_eq!(directories(&saved), [TWO]);
    for host in [local.connect(0).await, embedded(folder.path(), &[ONE, TWO])] {
        let fresh = open(&host, &bundle).await;
        assert_eq!(look(&fresh, "second").await, [ONE, TWO]);
        let copy = open(&host, &saved).await;
        assert_eq!(look(&copy, "second").await[0], TWO);
    }
}

#[tokio::test]
async fn an_image_whose_directory_is_not_given_is_refused_with_its_name() {
    let folder = folders();
    let local = start(folder.path());
    let [both, second, first] = [
        local.connect(0).await,
        local.connect(1).await,
        local.connect(2).await,
    ];
    let session = open(&both, &asking(&[ONE], &[TWO])).await;
    assert_eq!(look(&session, "run").await, [ONE, TWO]);
    let saved = session.save().await.expect("saved");
    for (lacking, name, other) in [
        (&second, ONE, TWO),
        (&first, TWO, ONE),
        (&embedded(folder.path(), &[TWO]), ONE, TWO),
        (&embedded(folder.path(), &[ONE]), TWO, ONE),
        (&embedded(folder.path(), &[]), ONE, TWO),
    ] {
        let why = refused_to_open(lacking, &saved).await;
        assert!(why.message.contains(name), "{why}");
        assert!(!why.message.contains(other), "{why}");
        assert!(lacking.sessions().await.expect("listed").is_empty());
    }
    let copy = open(&both, &saved).await;
    assert_eq!(look(&copy, "second").await, [ONE, TWO]);
}

#[tokio::test]
async fn a_kept_session_waits_for_a_directory_that_its_host_does_not_give() {
    let folder = folders();
    let configuration = |names: &[&str]| -> String {
        let lines = names.iter().map(|name| {
            let path = folder.path().join(name);
            format!("{name} = \"{}\"\n", path.display())
        });
        format!("[grants.directories]\n{}", lines.collect::<String>())
    };
    let mut process = Process::start(&configuration(&[ONE, TWO]), &["grants=one,two"]);
    let bundle = asking(&[ONE], &[TWO]);
    let host = process.connect(0).await;
    let session = open(&host, &bundle).await;
    assert_eq!(look(&session, "second").await, [ONE, TWO]);
    session.save().await.expect("saved");
    let id = session.id();
    host.close().await;

    let path = process.home().config_path();
    for (given, there) in [(&[TWO][..], false), (&[ONE, TWO], true)] {
        assert!(process.terminate().success(), "{}", process.log());
        std::fs::write(&path, configuration(given)).expect("the folder is writable");
        process.restart();
        let host = process.connect(0).await;
        let session = host.session_of(id, &bundle);
        if there {
            assert_eq!(look(&session, "second").await, [ONE, TWO]);
        } else {
            let call = session.call("second", json!([""])).expect("it is there");
            let why = refused(call.await, RefusalCode::GrantNotGiven);
            assert!(why.message.contains(ONE), "{why}");
        }
        host.close().await;
    }
}

#[tokio::test]
async fn a_call_and_a_job_that_begin_with_an_image_find_its_directories() {
    let folder = folders();
    let local = start(folder.path());
    let lacking = local.connect(1).await;
    for host in [local.connect(0).await, embedded(folder.path(), &[ONE, TWO])] {
        let session = open(&host, &asking(&[ONE], &[TWO])).await;
        let saved = session.save().await.expect("saved");
        assert_eq!(directories(&saved), [ONE, TWO]);
        // The guest knows the second directory by its number, also where only that is asked for.
        let second = saved.callable("second").expect("it is there");
        let seen = host.call(&second, json!([""])).await.expect("it looks");
        assert_eq!(found(&seen), [ONE, TWO]);
        let job = host.start(&second, json!([""])).await.expect("started");
        let seen = soon("the end", job.result()).await.expect("a value");
        assert_eq!(found(&seen), [ONE, TWO]);
        job.acknowledge().await.expect("it has ended");

        let called = lacking.call(&second, json!([""])).await;
        let why = refused(called, RefusalCode::GrantNotGiven);
        assert!(why.message.contains(ONE), "{why}");
        let started = lacking.start(&second, json!([""])).await;
        let why = refused(started, RefusalCode::GrantNotGiven);
        assert!(why.message.contains(ONE), "{why}");
    }
}

#[tokio::test]
async fn a_job_whose_key_loses_a_directory_stands_still_and_says_so() {
    let folder = folders();
    let local = start(folder.path());
    let raw = Raw {
        poll: record(spore_abi::poll::YIELD, 0, 0),
        ..Raw::default()
    };
    let endless = bundle_with(raw.code(), |manifest| {
        let callable = &mut manifest.callables[0];
        callable.resumable = true;
        callable.grants = vec![Grant::Directory(ONE.to_owned())];
    });
    let host = local.connect(0).await;
    let run = endless.callable("run").expect("it is there");
    let job = host.start(&run, json!([""])).await.expect("started");
    let key = local.clients[0].public();
    for (options, state) in [
        ("grants=two", JobState::Paused),
        ("grants=one", JobState::Running),
    ] {
        local.write_authorized_keys(&format!("{key} {options}\n"));
        until("the job stands still, or goes on", async || {
            job.info().await.is_ok_and(|info| info.state == state)
        })
        .await;
        let why = job.info().await.expect("listed").why;
        assert_eq!(
            why.contains("directory"),
            state == JobState::Paused,
            "{why}"
        );
    }
    job.cancel().await.expect("it is there");
}
