//! `spore session`: instances that are kept between calls, on a host or here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value as Json, json};
use spore_client::{
    Bundle, CallError, CallLimits, Host, Limits, Origin, RefusalCode, Session, SessionError,
    SessionId, SessionInfo, SessionState, Setup, with_port,
};

use spore_host::HeldFrom;

use crate::arguments::{self, Trust};
use crate::connect::{connect, home, runtime};
use crate::exit::{self, Exit, Failure, OrExit};
use crate::hint;
use crate::image::saved_before;
use crate::items;
use crate::output::{self, plain, size};
use crate::refusal::{self, By};
use crate::screen::Screen;
use crate::signals::Signals;

mod local;
mod moves;

use local::LocalSession;

/// Keep an instance between calls: open, call, list, save, restore, move, settle, adopt, close
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  id=$(spore session open counter.spore)
  spore session call $id add '[5]'
  spore session save $id -o five.spore
  spore session close $id

Without --on sessions are kept in the folder of your data, and each command finds them there as
the last one left them.")]
pub(crate) struct SessionCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Open(Open),
    Call(Call),
    Ls(Ls),
    Save(Save),
    Restore(Restore),
    Move(moves::Move),
    Settle(moves::Settle),
    Adopt(moves::Adopt),
    Close(Close),
}

/// Where a session is.
#[derive(clap::Args)]
struct Place {
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT. Without it, here
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    on: Option<String>,
    #[command(flatten)]
    trust: Trust,
}

/// How often a host is asked what a call that was interrupted has left.
const LOOKS_AFTER_INTERRUPT: u32 = 8;
/// Time between two such looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

impl Place {
    /// The option that names the place to another command.
    fn on_option(&self) -> String {
        let on = self.on.as_deref();
        on.map_or(String::new(), |on| format!(" --on {on}"))
    }
}

/// Does something on a host, and takes leave of it however that ends.
async fn on_host<T>(
    on: &str,
    trust: Trust,
    ask: impl AsyncFnOnce(&Host) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_host(connect(on, trust).await?, ask).await
}

/// The same on a host that the command is connected to.
async fn with_host<T>(
    host: Host,
    ask: impl AsyncFnOnce(&Host) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let answered = ask(&host).await;
    host.close().await;
    answered
}

/// The same with a session of it, in a runtime of its own.
fn with_session<T>(
    on: &str,
    trust: Trust,
    id: SessionId,
    ask: impl AsyncFnOnce(Session) -> Result<T, Failure>,
) -> Result<T, Failure> {
    runtime()?.block_on(on_host(on, trust, async |host| {
        ask(host.session(id).await?).await
    }))
}

/// Open a session of a bundle, and print its id
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session open counter.spore --on board.local

The bundle may have captures, which are bound once, or an image, which is restored.")]
struct Open {
    /// The bundle
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Close it when nobody uses it for so long. Only on a host, and only lower than its own limit
    #[arg(long, value_name = "TIME", value_parser = arguments::duration, requires = "on")]
    idle: Option<Duration>,
    #[command(flatten)]
    directories: Directories,
}

/// Call a callable of a session
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session call 00112233445566778899aabbccddeeff add '[5]'

A call that traps, or that goes beyond a limit, leaves the session poisoned: restore it, or close
it. A directory that a callable asks for, and that --dir grants, is part of the session from then
on: each later call, and what opens a copy of it, grants it too.

The items of a callable that emits them are written as they come, one line of JSON each. When nobody
reads them to the end, as with `head`, that is an interruption: a session here is as it was before
the call, and one on a host is poisoned.")]
struct Call {
    /// The session
    session: SessionId,
    /// The callable: its name in full, or the last part
    callable: String,
    /// The arguments: a JSON array, @FILE, or - for standard input [default: []]
    #[arg(
        value_name = "ARGS-JSON",
        default_value = "[]",
        hide_default_value = true
    )]
    arguments: String,
    #[command(flatten)]
    place: Place,
    /// Where the guest's random bytes begin [default: new ones]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Longest run of the guest. On a host, only lower than its own limit
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    wall: Option<Duration>,
    #[command(flatten)]
    directories: Directories,
    /// One JSON object with result or error, and host
    #[arg(long)]
    json: bool,
}

/// What the host of this process grants to the guest of a session.
#[derive(clap::Args)]
struct Directories {
    /// Grant this directory to a guest here, read-only. Hosts grant by their configuration
    #[arg(long = "dir", value_name = "NAME=PATH", value_parser = arguments::directory)]
    directories: Vec<(String, PathBuf)>,
}

impl Directories {
    /// Of a guest that is not here, nothing can be said.
    fn check_here(&self, on: Option<&str>) -> Result<(), Failure> {
        match on {
            Some(on) if !self.directories.is_empty() => Err(Failure::usage(format!(
                "--dir grants to a guest here, and this one is on {on}, which grants by its spore.toml"
            ))),
            _ => Ok(()),
        }
    }
}

/// List sessions
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session ls --on board.local --json | jq -r '.[].session'")]
struct Ls {
    #[command(flatten)]
    place: Place,
    /// A JSON array
    #[arg(long)]
    json: bool,
}

/// Save a session as a bundle with an image
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session save 00112233445566778899aabbccddeeff -o five.spore
  spore session open five.spore --on another.local

The session goes on. What was saved is also what `restore` puts it back to.")]
struct Save {
    /// The session
    session: SessionId,
    /// The file to write. If it has an image already, only what differs travels
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Put a session back to what it was last saved as
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session restore 00112233445566778899aabbccddeeff

What was saved to a file is opened with `spore session open FILE`, here or on any host.")]
struct Restore {
    /// The session
    session: SessionId,
    #[command(flatten)]
    place: Place,
}

/// End a session
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session close 00112233445566778899aabbccddeeff")]
struct Close {
    /// The session
    session: SessionId,
    #[command(flatten)]
    place: Place,
    /// Also one that a move has left held or given up, and may need
    #[arg(long)]
    force: bool,
}

impl SessionCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.verb {
            Verb::Open(open) => open.run(),
            Verb::Call(call) => call.run(),
            Verb::Ls(ls) => ls.run(),
            Verb::Save(save) => save.run(),
            Verb::Restore(restore) => restore.run(),
            Verb::Move(it) => it.run(),
            Verb::Settle(it) => it.run(),
            Verb::Adopt(it) => it.run(),
            Verb::Close(close) => close.run(),
        }
    }
}

impl Open {
    fn run(self) -> Result<(), Failure> {
        self.directories.check_here(self.place.on.as_deref())?;
        let bundle = Bundle::open(&self.file)?;
        hint::holds_no_run(&self.file, &bundle)?;
        let id = runtime()?.block_on(async {
            match &self.place.on {
                None => open_here(&bundle, &self.directories, None).await,
                Some(on) => {
                    on_host(on, self.place.trust, async |host| {
                        Ok(open_on(host, &bundle, self.idle, None).await?.id())
                    })
                    .await
                }
            }
        })?;
        output::print(&format!("{id}\n"))
    }
}

/// Opens a session of the bundle here; one that comes from a host is held.
async fn open_here(
    bundle: &Bundle,
    directories: &Directories,
    held: Option<HeldFrom>,
) -> Result<SessionId, Failure> {
    let host = embedded(None, directories)?;
    let session = open_on(&host, bundle, None, None).await;
    let by = By::Embedded(CallLimits::default());
    let session = session.map_err(|error| not_opened(error, by))?;
    let id = session.id();
    LocalSession::create(&home()?, id, &session.save().await?, held)?;
    Ok(id)
}

async fn open_on(
    host: &Host,
    bundle: &Bundle,
    idle: Option<Duration>,
    from: Option<Origin>,
) -> Result<Session, SessionError> {
    let screen = Screen::new();
    let output = screen.clone();
    let mut opening = host
        .open_session(bundle)
        .on_output(move |stream, bytes| output.output(stream, bytes));
    if let Some(idle) = idle {
        opening = opening.idle(idle);
    }
    if let Some(from) = from {
        opening = opening.arriving(from);
    }
    let opened = opening.await;
    screen.finish();
    opened
}

/// Why a host in this process opens no session.
fn not_opened(error: SessionError, by: By) -> Failure {
    match error {
        CallError::Refused(refused) => refusal::failure(&refused, by),
        error => error.into(),
    }
}

/// A host in this process for one session, with this wall time if not the default, which grants these
/// directories.
fn embedded(wall: Option<Duration>, directories: &Directories) -> Result<Host, Failure> {
    let mut setup = Setup {
        workers: Some(1),
        ..Setup::default()
    };
    // One instance is alive at a time, and room for more would only take time to lay out.
    setup.limits.instances = 1;
    setup.limits.wall = wall.unwrap_or(setup.limits.wall);
    setup.grants.directories = directories.directories.iter().cloned().collect();
    Host::embedded_with(setup).or_exit(Exit::Local)
}

impl Call {
    fn run(self) -> Result<(), Failure> {
        self.directories.check_here(self.place.on.as_deref())?;
        let arguments = arguments::json("the arguments", &self.arguments)?;
        let began = Instant::now();
        let result = runtime()?.block_on(self.result(arguments));
        if self.json {
            let (name, value) = match &result {
                Ok(Called::Value(value)) => ("result", value.clone()),
                Ok(Called::Items) => ("result", Json::Null),
                Err(failure) => ("error", failure.json()),
            };
            let on = self.place.on.as_deref();
            let object = json!({
                name: value,
                "session": self.session.to_string(),
                "host": on.map_or("embedded".to_owned(), with_port),
                "total_ns": u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            });
            match &result {
                // On a line of its own, as the items before it.
                Ok(Called::Items) => output::print(&format!("{}\n", output::json_line(&object)))?,
                _ => output::print_json(&object)?,
            }
            return result.map(|_| ());
        }
        match result? {
            Called::Value(value) => output::print_json(&value),
            Called::Items => Ok(()),
        }
    }

    async fn result(&self, arguments: Json) -> Result<Called, Failure> {
        if let Some(on) = &self.place.on {
            return on_host(on, self.place.trust, async |host| {
                let session = host.session(self.session).await?;
                let by = By::Host(self.limits());
                let called = self.call_in(&session, arguments, by).await;
                let (failure, looks) = match called {
                    Ok(Some(value)) => return Ok(value),
                    // The host hears of it while it is asked.
                    Ok(None) => (exit::interrupted(), LOOKS_AFTER_INTERRUPT),
                    Err(failure) => (failure, 1),
                };
                // A call that was stopped before it began leaves the session as it was.
                let mut poisoned = false;
                for look in 0..looks {
                    if look > 0 {
                        tokio::time::sleep(LOOK_PAUSE).await;
                    }
                    let sessions = host.sessions().await.unwrap_or_default();
                    poisoned = sessions
                        .iter()
                        .any(|it| it.session == self.session && it.state == SessionState::Poisoned);
                    if poisoned {
                        break;
                    }
                }
                Err(match poisoned {
                    true => self.poisoned(failure),
                    false => failure,
                })
            })
            .await;
        }
        let local = LocalSession::find(&home()?, self.session)?;
        let host = embedded(self.wall, &self.directories)?;
        let by = By::Embedded(CallLimits {
            wall_ms: Some(self.wall.map_or(millis(Limits::default().wall), millis)),
            ..CallLimits::default()
        });
        let session = host.open_session(&local.bundle()?).await;
        let session = session.map_err(|error| not_opened(error, by))?;
        let called = match self.call_in(&session, arguments, by).await {
            Ok(Some(value)) => Ok(value),
            // Nothing of it was kept.
            Ok(None) => {
                return Err(exit::interrupted().help("the session is as it was before the call"));
            }
            Err(failure) => Err(failure),
        };
        // Whatever came of the call: what the session is now is what the next command finds.
        let info = host.sessions().await?;
        match info.iter().find(|it| it.session == session.id()) {
            Some(info) if info.state == SessionState::Poisoned => {
                local.poison(&info.why)?;
                called.map_err(|failure| self.poisoned(failure))
            }
            _ => {
                let saved = session.save().await.map_err(|error| {
                    let failure = Failure::from(error).about("what the call has left is not kept");
                    failure.help("the session is as it was before the call")
                })?;
                local.keep(&saved)?;
                called
            }
        }
    }

    fn limits(&self) -> CallLimits {
        CallLimits {
            wall_ms: self.wall.map(millis),
            ..CallLimits::default()
        }
    }

    /// A failure that has poisoned the session.
    fn poisoned(&self, failure: Failure) -> Failure {
        let (session, on) = (self.session, self.place.on_option());
        failure.help(format!(
            "the session is poisoned: spore session restore {session}{on}, if it was saved, or \
             spore session close {session}{on}"
        ))
    }

    /// What came of a call; nothing when it was interrupted, or nobody read its items.
    async fn call_in(
        &self,
        session: &Session,
        arguments: Json,
        by: By,
    ) -> Result<Option<Called>, Failure> {
        let failure = |error| match error {
            CallError::Refused(refused) => refusal::failure(&refused, by),
            error => exit::call_failure(error, |error| Failure::guest_error(&self.callable, error)),
        };
        let mut signals = Signals::catch()?;
        let screen = Screen::new();
        let (_, callable) = session
            .manifest()
            .callable(&self.callable)
            .or_exit(Exit::Usage)?;
        if callable.streams {
            let (output, progress) = (screen.clone(), screen.clone());
            let mut call = session
                .stream(self.callable.as_str(), arguments)?
                .limits(self.limits())
                .on_output(move |stream, bytes| output.output(stream, bytes))
                .on_progress(move |done, total| progress.progress(done, total));
            if let Some(seed) = self.seed {
                call = call.seed(seed);
            }
            let printed = tokio::select! {
                printed = items::print(call, &screen, self.json) => Some(printed),
                _ = signals.next() => None,
            };
            screen.finish();
            return match printed.transpose()?.and_then(|printed| printed.ended) {
                Some(ended) => ended.map(|()| Some(Called::Items)).map_err(failure),
                None => {
                    screen.end_line();
                    Ok(None)
                }
            };
        }
        let (output, progress) = (screen.clone(), screen.clone());
        let mut call = session
            .call(self.callable.as_str(), arguments)?
            .limits(self.limits())
            .on_output(move |stream, bytes| output.output(stream, bytes))
            .on_progress(move |done, total| progress.progress(done, total));
        if let Some(seed) = self.seed {
            call = call.seed(seed);
        }
        let result = tokio::select! {
            result = call => Some(result),
            _ = signals.next() => None,
        };
        screen.finish();
        let Some(result) = result else {
            screen.end_line();
            return Ok(None);
        };
        let result = result.map_err(failure);
        result.map(|value| Some(Called::Value(value)))
    }
}

/// What came of a call.
enum Called {
    Value(Json),
    /// They are printed.
    Items,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Ls {
    fn run(self) -> Result<(), Failure> {
        let sessions = match &self.place.on {
            None => LocalSession::list(&home()?)?,
            Some(on) => runtime()?.block_on(on_host(on, self.place.trust, async |host| {
                Ok(host.sessions().await?)
            }))?,
        };
        if self.json {
            return output::print_json(&sessions.iter().map(info_json).collect());
        }
        if sessions.is_empty() {
            return output::print("no sessions\n");
        }
        let rows: Vec<_> = sessions.iter().map(row).collect();
        output::print(&output::table(0, &rows))
    }
}

fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Live => "live",
        SessionState::Resting => "resting",
        SessionState::Poisoned => "poisoned",
    }
}

fn row(info: &SessionInfo) -> [String; 5] {
    let idle = Duration::from_millis(info.idle_ms).as_secs();
    let state = match info.unavailable {
        Some(code) => format!("unavailable: {code}"),
        None => state(info.state).to_owned(),
    };
    // As long as its owner does.
    let waits = info.held.is_some() || info.gave_up.is_some();
    let mut how = match (info.held, info.gave_up) {
        (Some(_), _) => "held".to_owned(),
        (None, Some(to)) => format!("given up to {to}"),
        (None, None) => state.clone(),
    };
    if info.saved.is_some() {
        how.push_str(", saved");
    }
    if let Some(from) = info.held {
        how.push_str(&format!(": {from}"));
    }
    if waits && info.unavailable.is_some() {
        how.push_str(&format!("; {state}"));
    }
    if !info.why.is_empty() {
        how.push_str(&format!(": {}", plain(&info.why)));
    }
    [
        info.session.to_string(),
        plain(&info.name),
        size(info.memory_bytes),
        match (waits, info.idle_max_ms) {
            (false, Some(max)) => format!("idle {idle} of {} s", max / 1000),
            _ => format!("idle {idle} s"),
        },
        how,
    ]
}

fn origin_json(origin: Origin) -> Json {
    json!({
        "session": origin.session.to_string(),
        "host": origin.host.map(|key| key.to_string()),
    })
}

fn info_json(info: &SessionInfo) -> Json {
    json!({
        "session": info.session.to_string(),
        "bundle": info.bundle.to_string(),
        "name": info.name,
        "state": match info.unavailable {
            Some(_) => "unavailable",
            None => state(info.state),
        },
        "unavailable": info.unavailable.map(RefusalCode::name),
        "why": info.why,
        "memory_bytes": info.memory_bytes,
        "calls": info.calls,
        "idle_ms": info.idle_ms,
        "idle_max_ms": info.idle_max_ms,
        "saved": info.saved.map(|id| id.to_string()),
        "held": info.held.map(origin_json),
        "gave_up": info.gave_up.map(origin_json),
    })
}

impl Save {
    fn run(self) -> Result<(), Failure> {
        output::check_writable(&self.output)?;
        let bundle = match &self.place.on {
            None => LocalSession::find(&home()?, self.session)?.save()?,
            Some(on) => with_session(on, self.place.trust, self.session, async |session| {
                if let Some(saved) = saved_before(&self.output) {
                    session.knows(&saved);
                }
                Ok(session.save().await?)
            })?,
        };
        let file = bundle.inner().encode();
        output::write_file(&self.output, &file)?;
        let image = bundle.inner().image();
        output::print(&format!(
            "{}\n  bundle  {}\n  size    {}, of {} of memory that differ from a fresh instance\n",
            self.output.display(),
            bundle.id(),
            size(file.len() as u64),
            size(image.map_or(0, |image| image.changed_bytes())),
        ))
    }
}

impl Restore {
    fn run(self) -> Result<(), Failure> {
        match &self.place.on {
            None => LocalSession::find(&home()?, self.session)?.restore(),
            Some(on) => with_session(on, self.place.trust, self.session, async |session| {
                let restored = session.restore().await;
                restored.map_err(|error| match error {
                    CallError::Refused(refused) if refused.code == RefusalCode::NoImage => {
                        let id = self.session.to_string();
                        let what = format!("session {id} was never saved");
                        let close = ["spore", "session", "close", &id, "--on", on];
                        Failure::new(Exit::Refused, what).help(hint::shell(close))
                    }
                    error => error.into(),
                })
            }),
        }
    }
}

impl Close {
    fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(close(&self.place, self.session, self.force))
    }
}

async fn close(place: &Place, id: SessionId, force: bool) -> Result<(), Failure> {
    match &place.on {
        None => {
            let local = LocalSession::find(&home()?, id)?;
            if let (false, Ok(shelved)) = (force, local.shelved()) {
                let held = shelved.held.map(|held| held.origin());
                check_not_moving(place, id, held, shelved.gave_up)?;
            }
            local.close()
        }
        Some(on) => {
            on_host(on, place.trust, async |host| {
                let sessions = host.sessions().await?;
                let found = sessions.iter().find(|it| it.session == id);
                if let (false, Some(found)) = (force, found) {
                    check_not_moving(place, id, found.held, found.gave_up)?;
                }
                // By its id, since one that cannot be read is no session to be asked.
                Ok(host.close_session(id, None).await?)
            })
            .await
        }
    }
}

/// Refuses to close what a move that broke off may need.
fn check_not_moving(
    place: &Place,
    id: SessionId,
    held: Option<Origin>,
    gave_up: Option<Origin>,
) -> Result<(), Failure> {
    let here = place.on.as_deref().unwrap_or("here");
    let (what, settle) = match (held, gave_up) {
        (Some(from), _) => (
            "a move has left the session held: it may be all that there is of it",
            format!("{} --from HOST --to {here}", from.session),
        ),
        (None, Some(_)) => (
            "the session was given up to another host, and that the host says so may be what its move \
             needs to come to its end",
            format!("{id} --from {here} --to HOST"),
        ),
        (None, None) => return Ok(()),
    };
    let again = format!("spore session close {id}{} --force", place.on_option());
    Err(Failure::new(Exit::Refused, what)
        .help(format!("to end the move: spore session settle {settle}"))
        .help(format!("to close it all the same: {again}")))
}
