//! `spore job move`, and what is left to do when a move broke off.

use std::future::IntoFuture;
use std::pin::pin;
use std::time::{Duration, Instant};

use spore_client::{
    CallError, Host, JobId, JobState, MoveError, MoveHost, MoveStage, RefusalCode, Settled,
};

use super::{Place, WITHIN};
use crate::arguments;
use crate::connect::{connect_known, runtime};
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::{hint, output};

/// Time without a new stage after which one is told what a move waits for.
const SLOW: Duration = Duration::from_secs(3);

/// Move a job to another host, while it runs
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job move 00112233445566778899aabbccddeeff --from board.local --to tower.local

It stops at its next checkpoint and goes on there, with the same id. At no time do both hosts run
it. Both must serve your key; this machine carries what the job is made of from one to the other.")]
pub(super) struct Move {
    /// The job
    job: JobId,
    #[command(flatten)]
    hosts: Hosts,
    /// Time in which it is to reach a checkpoint
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, default_value = WITHIN)]
    within: Duration,
}

/// End a move that broke off, one way or the other, and print the host that has the job
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job settle 00112233445566778899aabbccddeeff --from board.local --to tower.local

Both hosts must be there. The job goes on at the one that is printed.")]
pub(super) struct Settle {
    /// The job
    job: JobId,
    #[command(flatten)]
    hosts: Hosts,
}

/// Have a host run the copy of a job that was moving, because the other host never comes back
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job adopt 00112233445566778899aabbccddeeff --on tower.local --force

Try `spore job settle` first. If the other host comes back after all, both run the job.")]
pub(super) struct Adopt {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
    /// You know that the other host does not run the job, and never will
    #[arg(long)]
    force: bool,
}

/// The two hosts of a move.
#[derive(clap::Args)]
struct Hosts {
    /// The host that has the job, or had it when the move began
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    from: String,
    /// The host that it goes to
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    to: String,
}

impl Hosts {
    fn with<T>(
        &self,
        job: JobId,
        ask: impl AsyncFnOnce(&Host, &Host) -> Result<T, MoveError>,
    ) -> Result<T, Failure> {
        runtime()?.block_on(async {
            let from = connect_known(&self.from).await?;
            let to = match connect_known(&self.to).await {
                Ok(to) => to,
                Err(failure) => {
                    from.close().await;
                    return Err(failure);
                }
            };
            let answered = ask(&from, &to).await;
            from.close().await;
            to.close().await;
            answered.map_err(|error| self.failure(job, error))
        })
    }

    fn of(&self, stage: MoveStage) -> &str {
        match stage.host() {
            MoveHost::Source => &self.from,
            MoveHost::Target => &self.to,
        }
    }

    /// What a move waits for that has come so far.
    fn waits(&self, last: Option<MoveStage>) -> String {
        let stage = match last {
            None => MoveStage::Saved,
            Some(MoveStage::Saved) => MoveStage::Ahead,
            Some(MoveStage::Ahead) => MoveStage::Stopped,
            Some(MoveStage::Stopped) => MoveStage::Fetched,
            Some(MoveStage::Fetched) => MoveStage::Arrived,
            Some(MoveStage::Arrived) => MoveStage::GivenUp,
            Some(MoveStage::GivenUp) => MoveStage::TakenOver,
            Some(MoveStage::TakenOver) => MoveStage::Forgotten,
            Some(_) => MoveStage::Settled,
        };
        let host = self.of(stage);
        format!("waiting for {host} to {stage}; a host that is lost is asked again for 10 s\n")
    }

    /// Says how to end a move that broke off.
    fn half_done(&self, job: JobId, failure: Failure) -> Failure {
        let job = job.to_string();
        let words = [
            "spore", "job", "settle", &job, "--from", &self.from, "--to", &self.to,
        ];
        failure.help("one host at most runs the job").help(format!(
            "once both hosts are there, run: {}",
            hint::shell(words)
        ))
    }

    fn failure(&self, id: JobId, error: MoveError) -> Failure {
        match error {
            MoveError::NotMoved { stage, source } => {
                let about = format!("the job was not moved: {} was to {stage}", self.of(stage));
                Failure::from(source).about(&about)
            }
            MoveError::HalfDone { stage, source } => {
                let about = format!("the move is half done: {} was to {stage}", self.of(stage));
                self.half_done(id, Failure::from(source).about(&about))
            }
            MoveError::Unclear { .. } => Failure::of(Exit::Refused, &error)
                .help(
                    "if nothing else moves it just now, see what `spore job ls` says of it on both",
                )
                .help("if one of them is lost for good, see: spore job adopt -h"),
            MoveError::SameHost => Failure::of(Exit::Usage, &error),
            MoveError::Ask(error) => {
                let unknown = matches!(&error, CallError::Refused(refused)
                    if refused.code == RefusalCode::UnknownJob);
                let failure = Failure::from(error);
                match unknown {
                    true => {
                        let words = ["spore", "job", "ls", "--on", &self.to];
                        let list = hint::shell(words);
                        failure.help(format!("it may have moved already; see: {list}"))
                    }
                    false => failure,
                }
            }
            _ => Failure::of(Exit::Local, &error),
        }
    }
}

impl Move {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (id, within) = (self.job, self.within);
        let (stages, mut reaches) = tokio::sync::mpsc::unbounded_channel();
        let mut reached = Vec::new();
        let mut is_paused = false;
        let moved = self.hosts.with(id, async |from, to| {
            let mut signals = Signals::catch();
            let job = from.job(id).await.map_err(MoveError::Ask)?;
            let moving = job.move_to(to, within).on_stage(move |stage| {
                // It is heard as long as the move is made.
                let _ = stages.send((stage, Instant::now()));
            });
            let mut moving = pin!(moving.into_future());
            let mut told = None;
            loop {
                tokio::select! {
                    moved = &mut moving => {
                        // That it moved does not depend on the answer.
                        let info = moved?.info().await;
                        is_paused = info.is_ok_and(|info| info.state == JobState::Paused);
                        return Ok(true);
                    }
                    Some(stage) = reaches.recv() => reached.push(stage),
                    () = interrupted(&mut signals) => return Ok(false),
                    () = tokio::time::sleep(SLOW) => {
                        let last = reached.last().map(|(stage, _)| *stage);
                        // Once for each stage.
                        if told.replace(last) != Some(last) {
                            output::to_stderr(self.hosts.waits(last).as_bytes());
                        }
                    }
                }
            }
        })?;
        if !moved {
            return Err(self.hosts.half_done(
                id,
                Failure::new(Exit::Interrupted, "interrupted; the move may be half done"),
            ));
        }
        while let Ok(stage) = reaches.try_recv() {
            reached.push(stage);
        }
        let at = |stage| {
            reached
                .iter()
                .find(|(it, _)| *it == stage)
                .map(|(_, at)| *at)
        };
        if let (Some(before), Some(after)) = (at(MoveStage::Ahead), at(MoveStage::TakenOver)) {
            let paused = (after - before).as_millis();
            let to = &self.hosts.to;
            let told = match is_paused {
                true => format!("it is at {to} now, and stands still there: it is paused\n"),
                false => format!("it stood still for {paused} ms at most, and goes on at {to}\n"),
            };
            output::to_stderr(told.as_bytes());
        }
        Ok(())
    }
}

/// Waits for a signal that ends the command; for ever where none can be caught.
async fn interrupted(signals: &mut Result<Signals, Failure>) {
    match signals {
        Ok(signals) => drop(signals.next().await),
        Err(_) => std::future::pending().await,
    }
}

impl Settle {
    pub(super) fn run(self) -> Result<(), Failure> {
        let id = self.job;
        let settled = self
            .hosts
            .with(id, async |from, to| from.settle_move(id, to).await)?;
        let host = match settled {
            Settled::AtSource => &self.hosts.from,
            Settled::AtTarget => &self.hosts.to,
            Settled::AtBoth => {
                let what =
                    "both hosts have the job, each a copy of its own: it was adopted by force";
                let words = [
                    "spore",
                    "job",
                    "cancel",
                    &id.to_string(),
                    "--on",
                    &self.hosts.from,
                ];
                return Err(Failure::new(Exit::Refused, what)
                    .help(format!(
                        "cancel one of the two, this one for example: {}",
                        hint::shell(words)
                    ))
                    .help("`spore job result` there has that host forget its copy"));
            }
            _ => return Err(Failure::new(Exit::Refused, "neither host has the job")),
        };
        output::print(&format!("{host}\n"))
    }
}

impl Adopt {
    pub(super) fn run(self) -> Result<(), Failure> {
        if !self.force {
            let job = self.job.to_string();
            let on = self.place.on.as_str();
            let words = ["spore", "job", "adopt", &job, "--on", on, "--force"];
            return Err(Failure::usage(
                "nothing was done: if the other host of the move still runs the job, or comes back \
                 and does, it runs twice, and what it does and emits is done twice",
            )
            .help(format!(
                "first try to end the move: spore job settle {job} --from HOST --to HOST"
            ))
            .help(format!(
                "if the other host never comes back, run: {}",
                hint::shell(words)
            )));
        }
        let id = self.job;
        let before = self.place.with(async |host| {
            let jobs = host.jobs().await?;
            let adopted = host.adopt_job(id).await;
            adopted.map_err(|error| match error {
                MoveError::Ask(error) => error.into(),
                error => Failure::of(Exit::Local, &error),
            })?;
            Ok(jobs.into_iter().find(|it| it.job == id))
        })?;
        let told = match before.map(|it| it.place) {
            Some(spore_client::Place::Here) => "the job is not in a move: nothing was done\n",
            _ => "the job is this host's from now on\n",
        };
        output::to_stderr(told.as_bytes());
        Ok(())
    }
}
