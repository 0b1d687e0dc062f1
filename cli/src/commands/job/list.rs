//! `spore job ls`.

use std::time::Duration;

use serde_json::{Value as Json, json};
use spore_client::{Ending, JobInfo, JobState, Place as Where, RefusalCode};

use super::Place;
use crate::exit::Failure;
use crate::output::{self, plain};

/// List jobs, those that have ended among them
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore job ls --on board.local --json | jq -r '.[].job'

A job stands there until its result was taken.")]
pub(super) struct Ls {
    #[command(flatten)]
    place: Place,
    /// A JSON array
    #[arg(long)]
    json: bool,
}

impl Ls {
    pub(super) fn run(self) -> Result<(), Failure> {
        let jobs = self.place.with(async |host| Ok(host.jobs().await?))?;
        if self.json {
            return output::print_json(&jobs.iter().map(info_json).collect());
        }
        if jobs.is_empty() {
            return output::print("no jobs\n");
        }
        let rows: Vec<_> = jobs.iter().map(row).collect();
        output::print(&output::table(0, &rows))
    }
}

fn row(info: &JobInfo) -> [String; 5] {
    let mut how = match info.unavailable {
        None => how(info.state, &info.place),
        // What it was doing is not known.
        Some(code) => match place(&info.place) {
            None => format!("unavailable: {code}"),
            Some(place) => format!("{place}, unavailable: {code}"),
        },
    };
    if !info.why.is_empty() {
        how.push_str(&format!(": {}", plain(&info.why)));
    }
    let progress = match (info.done, info.total) {
        (0, 0) if info.items > 0 => format!("{} items", info.items),
        (0, 0) => "-".to_owned(),
        (done, 0) => done.to_string(),
        (done, total) => format!("{done}/{total}"),
    };
    let age = Duration::from_millis(info.age_ms).as_secs();
    [
        info.job.to_string(),
        plain(&info.callable),
        progress,
        format!("{age} s"),
        how,
    ]
}

/// How and where a job is.
pub(super) fn how(state: JobState, place: &Where) -> String {
    let how = match (state, place) {
        // It stands still as long as it is that.
        (
            JobState::Running | JobState::Pausing,
            Where::Arriving { .. } | Where::Leaving { .. } | Where::GaveUp { .. },
        ) => "moving".to_owned(),
        (JobState::Running, Where::Offered { .. }) => "not here yet".to_owned(),
        (state, _) => self::state(state),
    };
    match self::place(place) {
        Some(place) => format!("{how}, {place}"),
        None => how,
    }
}

/// How a job is, in a word or two.
pub(super) fn state(state: JobState) -> String {
    match state {
        JobState::Running => "running".to_owned(),
        JobState::Pausing => "pausing".to_owned(),
        JobState::Paused => "paused".to_owned(),
        JobState::Ended(ending) => format!("ended: {}", self::ending(ending)),
    }
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Value => "value",
        Ending::GuestError => "guest_error",
        Ending::Failed => "failed",
        Ending::Refused => "refused",
        Ending::Cancelled => "cancelled",
    }
}

/// Where a job is that is not simply here.
fn place(place: &Where) -> Option<String> {
    Some(match place {
        Where::Here => return None,
        Where::Offered { from, .. } => format!("offered by {from}"),
        Where::Arriving { from, .. } => format!("arriving from {from}"),
        Where::Arrived { from, .. } => format!("arrived from {from}, which may have a copy"),
        Where::Leaving { to, .. } => format!("leaving for {to}"),
        Where::GaveUp { to, .. } => format!("given up to {to}"),
    })
}

fn info_json(info: &JobInfo) -> Json {
    let (state, ending) = match info.state {
        _ if info.unavailable.is_some() => ("unavailable", None),
        JobState::Running => ("running", None),
        JobState::Pausing => ("pausing", None),
        JobState::Paused => ("paused", None),
        JobState::Ended(ending) => ("ended", Some(self::ending(ending))),
    };
    json!({
        "job": info.job.to_string(),
        "bundle": info.bundle.to_string(),
        "callable": info.callable,
        "state": state,
        "ending": ending,
        "place": place_json(&info.place),
        "why": info.why,
        "done": info.done,
        "total": info.total,
        "age_ms": info.age_ms,
        "stops": info.stops,
        "items": info.items,
        "saved": info.saved.map(|id| id.to_string()),
        "unavailable": info.unavailable.map(RefusalCode::name),
    })
}

fn place_json(place: &Where) -> Json {
    let (name, moves) = match place {
        Where::Here => ("here", None),
        Where::Offered { move_id, from } => ("offered", Some((move_id, "from", from))),
        Where::Arriving { move_id, from, .. } => ("arriving", Some((move_id, "from", from))),
        Where::Arrived { move_id, from } => ("arrived", Some((move_id, "from", from))),
        Where::Leaving { move_id, to, .. } => ("leaving", Some((move_id, "to", to))),
        Where::GaveUp { move_id, to } => ("gave_up", Some((move_id, "to", to))),
    };
    match moves {
        None => json!({ "is": name }),
        Some((move_id, way, key)) => {
            json!({ "is": name, "move": move_id.to_string(), way: key.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use spore_client::{Identity, JobId, MoveId};

    use super::*;

    #[test]
    fn a_row_says_how_far_and_where_a_job_is() {
        let to = Identity::generate().public();
        let mut info = JobInfo {
            job: JobId([0; 16]),
            bundle: [1; 32].into(),
            callable: "a::b".to_owned(),
            state: JobState::Running,
            place: Where::Here,
            why: String::new(),
            done: 3,
            total: 7,
            age_ms: 61_500,
            stops: 0,
            items: 0,
            saved: None,
            unavailable: None,
        };
        assert_eq!(row(&info)[1..], ["a::b", "3/7", "61 s", "running"]);
        info.state = JobState::Ended(Ending::Failed);
        info.why = "the guest\npanicked".to_owned();
        (info.done, info.total, info.items) = (0, 0, 5);
        let expected = "ended: failed: the guest\\npanicked";
        assert_eq!(row(&info)[2..], ["5 items", "61 s", expected]);
        let move_id = MoveId([2; 16]);
        info.place = Where::GaveUp { move_id, to };
        assert!(row(&info)[4].contains(&format!("given up to {to}")));
        let json = info_json(&info);
        assert_eq!(
            (&json["state"], &json["ending"]),
            (&json!("ended"), &json!("failed"))
        );
        assert_eq!(json["place"]["to"], json!(to.to_string()));
    }
}
