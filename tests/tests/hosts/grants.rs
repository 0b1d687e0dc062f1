//! What guests may touch: a named directory, to read, and nothing else.

use std::path::Path;

use spore_bundle::Grant;
use spore_client::{Ending, Host, JobState, Persist, RefusalCode, Session};
use spore_host::{Grants, Setup};
use spore_tests::guests::{assert_serves, of};
use spore_tests::module::{RUN, Raw, bundle_with};
use spore_tests::outcome::{refused, soon, until};
use spore_tests::{Local, Process, hostile, keeper, plain as plain_bundle};
use tempfile::TempDir;

/// A folder with what guests may read, and something beside it that they may not.
///
/// ```text
/// outside         granted/one    granted/sub/two
///                 granted/within → one
///                 granted/escape → ../outside    granted/absolute → …/outside
///                 granted/up → ..
/// ```
fn folders() -> TempDir {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().expect("a folder for tests");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("written");
    std::fs::create_dir_all(path("granted/sub")).expect("made");
    write("outside", "a secret");
    write("granted/one", "first");
    write("granted/sub/two", "second");
    symlink("one", path("granted/within")).expect("linked");
    symlink("../outside", path("granted/escape")).expect("linked");
    symlink(path("outside"), path("granted/absolute")).expect("linked");
    symlink("..", path("granted/up")).expect("linked");
    folder
}

fn setup(granted: &Path) -> Setup {
    let directories = [("data".to_owned(), granted.to_owned())].into();
    Setup {
        grants: Grants { directories },
        ..Setup::default()
    }
}

/// A host that embeds, which has every grant, and a key that has this one.
async fn hosts(folder: &TempDir) -> (Local, [Host; 2]) {
    let setup = setup(&folder.path().join("granted"));
    let local = Local::start(setup.clone(), &["grants=data", "", "grants=other"]);
    let remote = local.connect(0).await;
    (
        local,
        [
            Host::embedded_with(setup).expect("the engine starts"),
            remote,
        ],
    )
}

async fn read(host: &Host, name: &str) -> Result<String, String> {
    let read = of(plain_bundle(), plain::read::HANDLE);
    match host.call(&read, (name.to_owned(),)).await {
        Ok(text) => Ok(text),
        Err(spore_client::CallError::Guest(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_granted_can_be_read() {
    let folder = folders();
    let (_local, hosts) = hosts(&folder).await;
    let list = of(plain_bundle(), plain::list::HANDLE);
    for host in &hosts {
        assert_eq!(read(host, "one").await.as_deref(), Ok("first"));
        assert_eq!(read(host, "sub/two").await.as_deref(), Ok("second"));
        assert_eq!(read(host, "sub/../one").await.as_deref(), Ok("first"));
        assert_eq!(read(host, "within").await.as_deref(), Ok("first"));
        let listed = host.call(&list, ()).await.expect("listed");
        assert_eq!(listed, ["absolute", "escape", "one", "sub", "up", "within"]);
    }
}

#[tokio::test]
async fn nothing_beside_it_can() {
    let folder = folders();
    let (_local, hosts) = hosts(&folder).await;
    let open_anything = of(plain_bundle(), plain::open_anything::HANDLE);
    for host in &hosts {
        let absolute = folder.path().join("outside");
        let absolute = format!("/../../../../../../..{}", absolute.display());
        for name in [
            "../outside",
            "sub/../../outside",
            "./.././outside",
            "escape",
            "absolute",
            "up/outside",
            "sub/../up/outside",
            absolute.as_str(),
            "/etc/passwd",
        ] {
            let text = read(host, name).await;
            assert!(text.is_err(), "{name}: {text:?}");
        }
        // Without a grant there is no directory at all, the granted one of others included.
        for path in ["/etc/passwd", "/data/one", "data/one", ".", "..", "/", ""] {
            let opened = host.call(&open_anything, (path.to_owned(),)).await;
            assert!(
                matches!(opened, Err(spore_client::CallError::Guest(_))),
                "{path}: {opened:?}"
            );
        }
        assert_serves(host).await;
    }
}

#[tokio::test]
async fn nothing_in_it_can_be_changed() {
    let folder = folders();
    let (_local, hosts) = hosts(&folder).await;
    let vandalise = of(plain_bundle(), plain::vandalise::HANDLE);
    let granted = folder.path().join("granted");
    let before = std::fs::metadata(granted.join("one")).expect("it is there");
    for host in &hosts {
        for name in ["one", "sub/two", "within"] {
            let worked = host
                .call(&vandalise, (name.to_owned(),))
                .await
                .expect("it ends");
            assert_eq!(worked, Vec::<String>::new(), "{name}");
        }
        assert_eq!(read(host, "one").await.as_deref(), Ok("first"));
    }
    let after = std::fs::metadata(granted.join("one")).expect("it is there");
    assert_eq!(
        before.modified().expect("a time"),
        after.modified().expect("a time")
    );
    assert_eq!(std::fs::read_dir(&granted).expect("readable").count(), 6);
}

#[tokio::test]
async fn open_files_are_bounded_and_the_host_keeps_its_descriptors() {
    let folder = folders();
    let (_local, hosts) = hosts(&folder).await;
    let open_many = of(hostile(), hostile::open_many::HANDLE);
    for host in &hosts {
        let opened = host.call(&open_many, ("one".to_owned(), 64)).await;
        assert_eq!(opened.expect("as many as may be"), (64, "first".to_owned()));
        // What reading takes for a moment is free while nothing is read: two more.
        let result = host.call(&open_many, ("one".to_owned(), 64 + 3)).await;
        assert_eq!(refused(result, RefusalCode::TooManyFiles).limit, Some(64));
        assert_eq!(read(host, "one").await.as_deref(), Ok("first"));
        assert_serves(host).await;
    }
}

#[tokio::test]
async fn a_key_without_the_grant_is_refused_and_told_no_more() {
    let folder = folders();
    let (local, [embedded, _]) = hosts(&folder).await;
    let read = of(plain_bundle(), plain::read::HANDLE);
    let secrets = of(hostile(), hostile::read_secrets::HANDLE);
    let mut told = Vec::new();
    for client in [1, 2] {
        let host = local.connect(client).await;
        let result = host.call(&read, ("one".to_owned(),)).await;
        let granted_to_others = refused(result, RefusalCode::GrantNotGiven).message;
        assert!(granted_to_others.contains("data"), "{granted_to_others}");
        let unknown = refused(host.call(&secrets, ()).await, RefusalCode::GrantNotGiven).message;
        // What the host has and what it lacks look the same to who has neither.
        assert_eq!(unknown, granted_to_others.replace("data", "secrets"));
        told.push(unknown);
        assert_serves(&host).await;
    }
    assert_eq!(told[0], told[1]);
    refused(
        embedded.call(&secrets, ()).await,
        RefusalCode::GrantNotGiven,
    );
}

/// The format has room for them, and no host has them to give: not to a key whose line names them
/// either, and not beside a directory that is given.
#[tokio::test]
async fn clocks_random_bytes_and_variables_are_given_by_no_host() {
    let folder = folders();
    let setup = setup(&folder.path().join("granted"));
    let local = Local::start(setup.clone(), &["grants=data,clock,random,HOME"]);
    let embedded = Host::embedded_with(setup).expect("the engine starts");
    let hosts = [embedded, local.connect(0).await];
    let asking = |grants: Vec<Grant>| {
        bundle_with(Raw::default().code(), |manifest| {
            manifest.callables[0].grants = grants;
        })
    };
    let data = Grant::Directory("data".to_owned());
    for host in &hosts {
        for (grant, named) in [
            (Grant::Clock, "clock"),
            (Grant::Random, "random bytes"),
            (
                Grant::Environment("HOME".to_owned()),
                "environment variable HOME",
            ),
        ] {
            for grants in [vec![grant.clone()], vec![data.clone(), grant]] {
                let bundle = asking(grants);
                let result = host.call(&of(&bundle, RUN), (vec![],)).await;
                let refused = refused(result, RefusalCode::GrantNotGiven);
                assert!(refused.message.starts_with(named), "{named}: {refused}");
            }
        }
        // The directory alone is given.
        let result = host.call(&of(&asking(vec![data.clone()]), RUN), (vec![],));
        assert_eq!(result.await.expect("it is given"), Vec::<u8>::new());
        assert_serves(host).await;
    }
}

#[tokio::test]
async fn a_granted_directory_that_is_gone_is_a_refusal() {
    let folder = folders();
    let setup = setup(&folder.path().join("gone"));
    let host = Host::embedded_with(setup).expect("the engine starts");
    let read = of(plain_bundle(), plain::read::HANDLE);
    let result = host.call(&read, ("one".to_owned(),)).await;
    refused(result, RefusalCode::GrantNotGiven);
    let read_or_panic = of(plain_bundle(), plain::read_or_panic::HANDLE);
    let result = host.call(&read_or_panic, ("one".to_owned(),)).await;
    refused(result, RefusalCode::GrantNotGiven);
    assert_serves(&host).await;
}

#[tokio::test]
async fn grants_come_from_the_configuration_and_go_with_the_line_of_the_key() {
    let folder = folders();
    let granted = folder.path().join("granted");
    let configuration = format!("[grants.directories]\ndata = {:?}\n", granted.to_str());
    let configuration = configuration.replace("Some(", "").replace("\")", "\"");
    let process = Process::start(&configuration, &["grants=data"]);
    let host = process.connect(0).await;
    assert_eq!(read(&host, "one").await.as_deref(), Ok("first"));
    // The same connection, once the line says so no more.
    process.write_authorized_keys(&format!("{}\n", process.clients[0].public()));
    let callable = of(plain_bundle(), plain::read::HANDLE);
    until("the grant is gone", || async {
        match host.call(&callable, ("one".to_owned(),)).await {
            Ok(_) => false,
            refusal => {
                refused(refusal, RefusalCode::GrantNotGiven);
                true
            }
        }
    })
    .await;
    assert_serves(&host).await;
}

#[tokio::test]
async fn a_session_that_was_opened_before_a_grant_says_so() {
    let folder = folders();
    let granted = folder.path().join("granted");
    let local = Local::start(setup(&granted), &[""]);
    let host = local.connect(0).await;
    let session = host.open_session(keeper()).await.expect("opened");
    let read = async |session: &Session| {
        let call = session.call(keeper::read::HANDLE, ("one".to_owned(),));
        call.expect("it is there").await
    };
    refused(read(&session).await, RefusalCode::GrantNotGiven);
    local.write_authorized_keys(&format!("{} grants=data\n", local.clients[0].public()));
    until("it is granted", || async {
        let later = host.open_session(keeper()).await.expect("opened");
        let granted = read(&later).await.is_ok();
        later.close().await.expect("closed");
        granted
    })
    .await;
    let why = refused(read(&session).await, RefusalCode::GrantNotGiven);
    assert!(
        why.message.contains("after the session was opened"),
        "{why}"
    );
}

/// Its items may not leave before an image that contains them is kept, and there is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_keeps_a_file_open_says_why_it_is_not_kept_and_can_be_cancelled() {
    let folder = folders();
    let local = Local::start(setup(&folder.path().join("granted")), &["grants=data"]);
    let host = local.connect(0).await;
    let emits = of(keeper(), keeper::emit_while_open::HANDLE);
    let arguments = ("one".to_owned(), 1000);
    let every = Persist::Every { ms: 100 };
    let job = host.start(&emits, arguments).persist(every).await;
    let job = job.expect("started");
    until("it says why it is not kept", async || {
        let info = job.info().await.expect("listed");
        info.state == JobState::Running && info.why.contains("has 1 file open")
    })
    .await;
    // It waits for its items to be taken, and keeps no worker from others meanwhile.
    assert_eq!(read(&host, "one").await.as_deref(), Ok("first"));
    let cancelled = soon("the job ends", job.cancel()).await;
    let state = cancelled.expect("it is there").state;
    assert_eq!(state, JobState::Ended(Ending::Cancelled));
}
