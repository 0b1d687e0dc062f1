//! `spore job watch` and `spore job result`: what a job says, and what it comes to.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::IntoFuture;
use std::time::Duration;

use serde_json::{Value as Json, json};
use spore_client::{
    CallError, DynamicJob, Host, JobError, JobId, JobNews, JobState, RefusalCode, with_port,
};

use super::{Place, list, own_error};
use crate::exit::{self, Exit, Failure};
use crate::hint;
use crate::output::{self, plain};
use crate::screen::Screen;
use crate::signals::Signals;

/// Longest time in which a host is told which items were written.
const TAKEN_TIME: Duration = Duration::from_secs(1);

/// Show what a job prints, how far it is, its items, and at the end its result
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job watch 00112233445566778899aabbccddeeff --on board.local

What the guest prints from now on goes to standard error, with its progress if that is a terminal;
items go to standard output as they come, one line of JSON each, and so does the result, which stays
on the host. Items are taken: the newest watch has them, and what is written counts as taken. If the
watch was interrupted, the last of what was written may come again to a later one or to `job result`,
with the same numbers; `spore job watch --from N` begins with the next.
Ctrl-C leaves the job as it is.
With --json, one object a line: item and sequence, and at the end result or error, and job.")]
pub(super) struct Watch {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
    /// Begin with the item of this number; those below are forgotten
    #[arg(long, value_name = "N")]
    from: Option<u64>,
    /// Leave the items to another watch
    #[arg(long, conflicts_with = "from")]
    no_items: bool,
    /// One JSON object for each item and for the end
    #[arg(long)]
    json: bool,
}

/// Wait for a job to end, print its result, and let the host forget it
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job result 00112233445566778899aabbccddeeff --on board.local

The result is written to standard output as JSON, and the exit code is that of `spore run`. Of a
job that emits items, these are written as they come, one line of JSON each.
With --json, one object: result or error, job, host.")]
pub(super) struct Result {
    /// The job
    job: JobId,
    #[command(flatten)]
    place: Place,
    /// Leave the result on the host
    #[arg(long)]
    keep: bool,
    /// Have the host forget a job that it cannot read from its disk
    #[arg(long, conflicts_with = "keep")]
    force: bool,
    /// One JSON object with result or error, job and host
    #[arg(long)]
    json: bool,
}

/// What became of a job, and whether that is its end, which the host can forget.
struct Ended {
    result: std::result::Result<Json, Failure>,
    /// Nothing is left to be written of a result
    told: bool,
    /// An item was not written, since nobody reads on
    is_unread: bool,
    is_end: bool,
    /// The items below this one were written, of which the host may not know
    taken: Option<u64>,
}

/// What is shown of a job that is watched.
struct Shown {
    json: bool,
    /// Nothing at all; from a number; or from the first that is there
    items: Option<Option<u64>>,
    /// The changes of its state
    states: bool,
}

impl Watch {
    pub(super) fn run(self) -> std::result::Result<(), Failure> {
        let shown = Shown {
            json: self.json,
            items: (!self.no_items).then_some(self.from),
            states: true,
        };
        self.place.with(async |host| {
            let job = host.job(self.job).await?;
            say_if_paused(&job, &self.place).await?;
            self.check_from(&job).await?;
            let next = Cell::new(None);
            let ended = uninterrupted(watched(&job, &shown, &next)).await;
            let go_on = next.get().map(|next| go_on(self.job, &self.place, next));
            let ended = ended.map_err(|failure| with_next(failure, go_on.as_deref()))?;
            say_unread(&ended, go_on.as_deref());
            let taken = ended.taken;
            let told = tell(ended, self.json, self.job, &self.place);
            say_taken(&job, taken).await;
            told.result
        })
    }

    /// Refuses a number that no item has: all that come before it would be forgotten. A stream that is
    /// not durable may have been set back, and emits those again that are not wanted twice.
    async fn check_from(&self, job: &DynamicJob) -> std::result::Result<(), Failure> {
        let emitted = job.info().await?.items;
        let Some(from) = self.from.filter(|from| *from > emitted) else {
            return Ok(());
        };
        if job.watch().await?.at_least_once() {
            return Ok(());
        }
        let failure = Failure::usage(format!("no item has the number {from}"));
        Err(failure.help(format!("the next that the job emits is number {emitted}")))
    }
}

/// The command with which somebody goes on who has the items below this one.
fn go_on(job: JobId, place: &Place, next: u64) -> String {
    let (job, next) = (job.to_string(), next.to_string());
    let words = [
        "spore", "job", "watch", &job, "--on", &place.on, "--from", &next,
    ];
    hint::shell(words)
}

/// Says how to go on after an interruption, where there were items.
fn with_next(failure: Failure, go_on: Option<&str>) -> Failure {
    match go_on {
        Some(go_on) if failure.is(Exit::Interrupted) => {
            failure.help(format!("to go on with the next item: {go_on}"))
        }
        _ => failure,
    }
}

/// Says which item was not written, when a reader has gone before the end. It may have left what it was
/// written.
fn say_unread(ended: &Ended, go_on: Option<&str>) {
    if let (true, Some(go_on)) = (ended.is_unread, go_on) {
        let note = format!("note: nobody reads on; the next item that was not written: {go_on}\n");
        output::to_stderr(note.as_bytes());
    }
}

impl Result {
    pub(super) fn run(self) -> std::result::Result<(), Failure> {
        self.place.with(async |host| {
            let job = match host.job(self.job).await {
                Err(CallError::Refused(why)) if is_lost(why.code) => {
                    return self.lost(host, CallError::Refused(why)).await;
                }
                job => job?,
            };
            say_if_paused(&job, &self.place).await?;
            let ended = if job.emits_items() {
                let shown = Shown {
                    json: self.json,
                    items: Some(None),
                    states: false,
                };
                let next = Cell::new(None);
                let ended = uninterrupted(watched(&job, &shown, &next)).await;
                let go_on = next.get().map(|next| go_on(self.job, &self.place, next));
                let ended = ended.map_err(|failure| with_next(failure, go_on.as_deref()))?;
                say_unread(&ended, go_on.as_deref());
                ended
            } else {
                let result = uninterrupted(async { Ok(job.result().await) }).await?;
                ended(&job, result).await?
            };
            let (is_end, taken) = (ended.is_end, ended.taken);
            let told = tell(ended, self.json, self.job, &self.place);
            // What could not be written, or what nobody read, is not lost. That a job has failed is said
            // afterwards, and again by its exit code.
            match is_end && told.is_written && !self.keep {
                true => job.acknowledge().await?,
                false => say_taken(&job, taken).await,
            }
            if is_end && !told.is_written && !self.keep {
                output::to_stderr(b"note: the result was not read, and stays on the host\n");
            }
            told.result
        })
    }

    /// Of a job that the host cannot read from its disk, or does not list.
    async fn lost(&self, host: &Host, why: JobError) -> std::result::Result<(), Failure> {
        if self.force {
            host.acknowledge_job(self.job).await?;
            output::to_stderr(b"the host has forgotten the job, which it could not read\n");
            return Ok(());
        }
        let is_damaged =
            matches!(&why, CallError::Refused(why) if why.code == RefusalCode::StoreDamaged);
        let failure = Failure::from(why);
        Err(match is_damaged {
            true => failure.help("with --force the host forgets it"),
            false => failure,
        })
    }
}

/// Whether there may be something on the host's disk that nobody can read.
fn is_lost(code: RefusalCode) -> bool {
    matches!(code, RefusalCode::StoreDamaged | RefusalCode::UnknownJob)
}

/// Tells the host which items were written: the watch was over before it had heard of the last, and a later
/// one is not to bring them again. It is no loss if it does not hear.
async fn say_taken(job: &DynamicJob, below: Option<u64>) {
    if let Some(below) = below {
        let hears = job.watch().items_from(below).into_future();
        let _ = tokio::time::timeout(TAKEN_TIME, hears).await;
    }
}

/// Says that nothing will come of a job before somebody lets it go on.
async fn say_if_paused(job: &DynamicJob, place: &Place) -> std::result::Result<(), Failure> {
    let info = job.info().await?;
    if info.state == JobState::Paused {
        let why = match info.why.is_empty() {
            true => String::new(),
            false => format!(" ({})", plain(&info.why)),
        };
        let (id, on) = (job.id(), &place.on);
        let note = format!("note: the job is paused{why}: spore job resume {id} --on {on}");
        Screen::new().say(&note);
    }
    Ok(())
}

/// Watches a job to its end. Meanwhile `next` is the number behind the last item that was written.
async fn watched(
    job: &DynamicJob,
    shown: &Shown,
    next: &Cell<Option<u64>>,
) -> std::result::Result<Ended, Failure> {
    let mut watching = job.watch();
    watching = match shown.items {
        None => watching.without_items(),
        Some(None) => watching,
        Some(Some(from)) => watching.items_from(from),
    };
    let mut watch = watching.await?;
    let screen = Screen::new();
    if watch.items_from().is_some() && watch.at_least_once() {
        screen.say("note: an item may come again, with the same number, if the host restarts");
    }
    let info = watch.info();
    if info.total > 0 || info.done > 0 {
        screen.progress(info.done, info.total);
    }
    let streams = watch.items_from().is_some();
    let broken = loop {
        match watch.next().await {
            None => break None,
            Some(Err(error)) => break Some(error),
            Some(Ok(JobNews::Output(stream, bytes))) => screen.output(stream, &bytes),
            Some(Ok(JobNews::Progress { done, total })) => screen.progress(done, total),
            Some(Ok(JobNews::Item { sequence, item })) => {
                let line = match shown.json {
                    true => json!({ "item": item, "sequence": sequence }),
                    false => item,
                };
                if !screen.print_json(&line)? {
                    // Nobody reads on. The job does not care.
                    screen.finish();
                    next.set(Some(sequence));
                    return Ok(Ended {
                        result: Ok(Json::Null),
                        told: true,
                        is_unread: true,
                        is_end: false,
                        taken: None,
                    });
                }
                next.set(Some(sequence + 1));
            }
            Some(Ok(JobNews::State(changed))) if shown.states => {
                let how = list::how(changed.state, &changed.place);
                screen.say(&format!("the job is {how}"));
            }
            Some(Ok(_)) => {}
        }
    };
    screen.finish();
    let result = match broken {
        Some(error) => Err(error),
        None => watch.result().expect("the watch has come to the end"),
    };
    let mut ended = ended(job, result).await?;
    if ended.result.is_err() {
        screen.end_line();
    }
    // Items have no value after them.
    ended.told = streams && !shown.json;
    ended.taken = next.get().filter(|_| ended.is_end);
    Ok(ended)
}

/// What a job has come to.
async fn ended(
    job: &DynamicJob,
    result: std::result::Result<Json, CallError<Json>>,
) -> std::result::Result<Ended, Failure> {
    let is_end = matches!(
        result,
        Ok(_) | Err(CallError::Guest(_) | CallError::Failed(_) | CallError::JobEnded(_))
    );
    let callable = match &result {
        Err(CallError::Guest(_)) => job.info().await?.callable,
        _ => String::new(),
    };
    Ok(Ended {
        result: result.map_err(|error| match error {
            // Nothing was called, and the job may be there.
            CallError::Lost(lost) => Failure::from(CallError::<Infallible>::Lost(lost)),
            error => exit::call_failure(error, own_error(&callable)),
        }),
        told: false,
        is_unread: false,
        is_end,
        taken: None,
    })
}

/// What came of writing what a job has come to.
struct Told {
    /// Somebody may have it: a reader took it, or there is nothing to read but why it failed.
    is_written: bool,
    result: std::result::Result<(), Failure>,
}

/// Writes what a job has come to.
fn tell(ended: Ended, json: bool, job: JobId, place: &Place) -> Told {
    let written = if json {
        let (name, value) = match &ended.result {
            Ok(value) => ("result", value.clone()),
            Err(failure) => ("error", failure.json()),
        };
        let object = json!({
            name: value,
            "job": job.to_string(),
            "host": with_port(&place.on),
        });
        output::print_to_reader(&format!("{}\n", output::json_line(&object)))
    } else {
        match &ended.result {
            Ok(value) if !ended.told => output::print_json_to_reader(value),
            _ => Ok(true),
        }
    };
    match written {
        Ok(is_written) => Told {
            is_written,
            result: ended.result.map(drop),
        },
        Err(failure) => Told {
            is_written: false,
            result: Err(failure),
        },
    }
}

/// Does the work unless a signal asks the command to end. The job is as it was then.
async fn uninterrupted<T>(
    work: impl Future<Output = std::result::Result<T, Failure>>,
) -> std::result::Result<T, Failure> {
    let mut signals = Signals::catch()?;
    tokio::select! {
        done = work => done,
        _ = signals.next() => Err(Failure::new(Exit::Interrupted, "interrupted; the job stays as it is")),
    }
}
