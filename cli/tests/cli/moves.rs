//! Jobs that go on elsewhere: from a file, by a move while they run, and after a move that broke off.

use serde_json::json;
use spore_client::{Connect, Home, MoveStage};
use tokio::sync::oneshot;

use crate::common::{Ended, Host, Jobs, PATIENCE, User, stirred};

/// Of a job that runs for ten seconds.
const ROUNDS: u64 = 500;

/// A user, and two others who run hosts for them.
struct Trio {
    laptop: User,
    board: User,
    tower: User,
    /// Where their hosts are
    from: String,
    to: String,
}

impl Trio {
    fn new() -> (Trio, [Host; 2]) {
        let [laptop, board, tower] = [(); 3].map(|()| User::new());
        let hosts = [board.host_for(&laptop), tower.host_for(&laptop)];
        let [from, to] = hosts.each_ref().map(|host| host.address.clone());
        let trio = Trio {
            laptop,
            board,
            tower,
            from,
            to,
        };
        (trio, hosts)
    }

    fn at_source(&self) -> Jobs<'_> {
        Jobs {
            user: &self.laptop,
            on: &self.from,
        }
    }

    fn at_target(&self) -> Jobs<'_> {
        Jobs {
            user: &self.laptop,
            on: &self.to,
        }
    }

    /// `move` or `settle` of a job, from the first host to the other.
    fn between(&self, verb: &str, id: &str) -> Ended {
        let hosts = ["--from", &self.from, "--to", &self.to];
        self.laptop.spore(["job", verb, id].iter().chain(&hosts))
    }

    /// Starts a job at the first host, and moves it as `spore job move` does, up to this stage: there
    /// a host is killed, and who moves the job is gone as well. Gives the id.
    fn broken_at(&self, stage: MoveStage, killed: Host) -> String {
        let id = self.at_source().stir(ROUNDS);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let connect = async |host: &str| {
                let connect = Connect::new().home(Home::at(self.laptop.path("")));
                connect.to(host).await.expect("it serves this user")
            };
            let (from, to) = (connect(&self.from).await, connect(&self.to).await);
            let job = from.job(id.parse().expect("an id")).await;
            let job = job.expect("it was started");
            let (gone, broken) = oneshot::channel();
            let mut breaks = Some((gone, killed));
            let moving = job.move_to(&to, PATIENCE).on_stage(move |reached| {
                if reached == stage
                    && let Some((gone, killed)) = breaks.take()
                {
                    drop(killed);
                    let _ = gone.send(());
                }
            });
            tokio::select! {
                moved = moving.into_future() => panic!("it did not break: {:?}", moved.err()),
                Ok(()) = broken => {}
            }
        });
        id
    }
}

fn result() -> String {
    format!("{}\n", stirred(ROUNDS))
}

#[test]
fn a_saved_job_goes_on_on_another_host_to_the_same_result() {
    let (trio, _hosts) = Trio::new();
    let (here, there) = (trio.at_source(), trio.at_target());
    let id: &str = &here.stir(ROUNDS);
    here.comes_to(id, 10);
    let said = here.ask("save", id, &["-o", "half.spore"]).ok();
    assert!(said.starts_with("half.spore\n  bundle  "), "{said}");
    let shown = trio.laptop.spore(["inspect", "half.spore"]).ok();
    assert!(shown.contains("\n  runs     hello::stirs\n"), "{shown}");

    let open = ["job", "open", "half.spore", "--on", &trio.to];
    let copy = trio.laptop.spore(open).ok();
    let copy = copy.trim_end();
    assert_ne!(copy, id);
    // It does not begin again.
    let watched = there.ask("watch", copy, &[]);
    let mut lines = watched.stderr.lines();
    let round = lines.find_map(|line| line.strip_prefix("round "));
    let round: u64 = round.expect("it goes on").parse().expect("a number");
    assert!(round >= 10, "{watched:?}");
    assert_eq!(watched.ok(), result());
    assert_eq!(there.ask("result", copy, &[]).ok(), result());
    // The one that was saved is none the wiser.
    assert_eq!(here.ask("result", id, &[]).ok(), result());
}

#[test]
fn a_job_moves_while_it_runs() {
    let (trio, _hosts) = Trio::new();
    let (here, there) = (trio.at_source(), trio.at_target());
    let id: &str = &here.stir(ROUNDS);
    here.comes_to(id, 3);
    let moved = trio.between("move", id);
    assert!(moved.stderr.starts_with("it stood still for "), "{moved:?}");
    let expected = format!("goes on at {}\n", trio.to);
    assert!(moved.stderr.ends_with(&expected), "{moved:?}");
    assert_eq!(moved.ok(), "");

    assert!(here.info(id).is_null());
    let said = here.ask("result", id, &[]).failed(3);
    assert!(said.contains("there is no such job"), "{said}");
    let info = there.info(id);
    assert_eq!(info["state"], "running");
    assert_eq!(info["place"]["is"], "here");
    // To where it is already, it cannot go.
    let again = ["job", "move", id, "--from", &trio.to, "--to", &trio.to];
    let said = trio.laptop.spore(again).failed(2);
    assert!(said.contains("on that host already"), "{said}");
    // Nothing is left to be settled.
    assert_eq!(trio.between("settle", id).ok(), format!("{}\n", trio.to));
    assert_eq!(there.ask("result", id, &[]).ok(), result());
    let said = trio.between("settle", id).failed(3);
    assert!(said.contains("neither host has the job"), "{said}");
}

#[test]
fn a_move_whose_target_was_killed_is_settled_when_it_is_back() {
    let (trio, [_source, target]) = Trio::new();
    let (here, there) = (trio.at_source(), trio.at_target());
    let id: &str = &trio.broken_at(MoveStage::GivenUp, target);
    assert_eq!(here.info(id)["place"]["is"], "gave_up");
    let said = here.ask("result", id, &[]).failed(3);
    assert!(said.contains("given up to another host"), "{said}");
    assert!(said.contains("spore job settle JOB"), "{said}");
    let said = trio.between("settle", id).failed(4);
    assert!(said.contains(&trio.to), "{said}");

    let _target = trio.tower.host_at(&trio.to);
    assert_eq!(there.info(id)["place"]["is"], "arriving");
    assert_eq!(trio.between("settle", id).ok(), format!("{}\n", trio.to));
    assert!(here.info(id).is_null());
    assert_eq!(there.info(id)["place"]["is"], "here");
    assert_eq!(there.ask("result", id, &[]).ok(), result());
}

#[test]
fn a_move_whose_source_was_killed_is_settled_when_it_is_back() {
    let (trio, [source, _target]) = Trio::new();
    let (here, there) = (trio.at_source(), trio.at_target());
    let id: &str = &trio.broken_at(MoveStage::Arrived, source);
    assert_eq!(there.info(id)["place"]["is"], "arriving");

    // It had not given up, and goes on.
    let _source = trio.board.host_at(&trio.from);
    assert_eq!(here.info(id)["place"]["is"], "here");
    assert_eq!(trio.between("settle", id).ok(), format!("{}\n", trio.from));
    assert!(there.info(id).is_null());
    assert_eq!(here.ask("result", id, &[]).ok(), result());
}

#[test]
fn a_job_whose_host_never_comes_back_is_adopted_by_the_other() {
    let (trio, [source, _target]) = Trio::new();
    let there = trio.at_target();
    let id: &str = &trio.broken_at(MoveStage::Arrived, source);
    trio.between("settle", id).failed(4);
    let is_arriving = || {
        let info = there.info(id);
        info["place"]["is"] == "arriving"
    };
    assert!(is_arriving());
    let said = there.ask("resume", id, &[]).failed(3);
    assert!(said.contains("the job is being moved"), "{said}");
    there.ask("adopt", id, &[]).failed(2);
    assert!(is_arriving(), "nothing was done");

    for told in ["this host's from now on", "not in a move"] {
        let adopted = there.ask("adopt", id, &["--force"]);
        assert!(adopted.stderr.contains(told), "{adopted:?}");
        assert_eq!(adopted.ok(), "");
    }
    let info = there.info(id);
    assert_eq!(
        (&info["state"], &info["place"]["is"]),
        (&json!("running"), &json!("here"))
    );
    assert_eq!(there.ask("result", id, &[]).ok(), result());
    assert!(there.info(id).is_null());
}
