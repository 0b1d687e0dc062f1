//! `spore session`: instances that are kept between calls, on a host or here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value as Json, json};
use spore_client::{
    Bundle, CallError, CallLimits, Host, RefusalCode, Session, SessionId, SessionInfo,
    SessionState, Setup, with_port,
};

use crate::arguments::{self, Trust};
use crate::connect::{connect, home, runtime};
use crate::exit::{self, Exit, Failure, OrExit};
use crate::output::{self, plain, size};
use crate::refusal::{self, By};
use crate::screen::Screen;
use crate::signals::Signals;

mod local;

use local::LocalSession;

/// Keep an instance between calls: open, call, list, save, restore, move, close
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
    Move(Move),
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

/// Does something on a host, and takes leave of it however that ends.
async fn on_host<T>(
    on: &str,
    trust: Trust,
    ask: impl AsyncFnOnce(&Host) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let host = connect(on, trust).await?;
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
}

/// Call a callable of a session
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session call 00112233445566778899aabbccddeeff add '[5]'

A call that traps, or that goes beyond a limit, leaves the session poisoned: restore it, or close
it.")]
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
    /// One JSON object with result or error, and host
    #[arg(long)]
    json: bool,
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
    /// The file to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// Put a session back to what it was last saved as
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session restore 00112233445566778899aabbccddeeff")]
struct Restore {
    /// The session
    session: SessionId,
    #[command(flatten)]
    place: Place,
}

/// Move a session to another host, and print its id there
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore session move 00112233445566778899aabbccddeeff --on board.local --to another.local

It is saved, opened there, and closed here if no call came in between; otherwise it stays here and
nothing is opened there.")]
struct Move {
    /// The session
    session: SessionId,
    /// The host that it goes to; `here` for this machine
    #[arg(long, value_name = "HOST", value_parser = arguments::host)]
    to: String,
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
            Verb::Close(close) => close.run(),
        }
    }
}

impl Open {
    fn run(self) -> Result<(), Failure> {
        let bundle = Bundle::open(&self.file)?;
        let id = runtime()?.block_on(open(&self.place, &bundle, self.idle))?;
        output::print(&format!("{id}\n"))
    }
}

/// Opens a session of the bundle on a host or here.
async fn open(
    place: &Place,
    bundle: &Bundle,
    idle: Option<Duration>,
) -> Result<SessionId, Failure> {
    let Some(on) = &place.on else {
        let session = open_on(&embedded()?, bundle, idle).await?;
        let id = session.id();
        LocalSession::create(&home()?, id, &session.save().await?)?;
        return Ok(id);
    };
    on_host(on, place.trust, async |host| {
        Ok(open_on(host, bundle, idle).await?.id())
    })
    .await
}

async fn open_on(host: &Host, bundle: &Bundle, idle: Option<Duration>) -> Result<Session, Failure> {
    let screen = Screen::new();
    let output = screen.clone();
    let mut opening = host
        .open_session(bundle)
        .on_output(move |stream, bytes| output.output(stream, bytes));
    if let Some(idle) = idle {
        opening = opening.idle(idle);
    }
    let opened = opening.await;
    screen.finish();
    Ok(opened?)
}

/// A host in this process for one session.
fn embedded() -> Result<Host, Failure> {
    let mut setup = Setup {
        workers: Some(1),
        ..Setup::default()
    };
    // One instance is alive at a time, and room for more would only take time to lay out.
    setup.limits.instances = 1;
    Host::embedded_with(setup).or_exit(Exit::Local)
}

impl Call {
    fn run(self) -> Result<(), Failure> {
        let arguments = arguments::json("the arguments", &self.arguments)?;
        let began = Instant::now();
        let result = runtime()?.block_on(self.result(arguments));
        if self.json {
            let (name, value) = match &result {
                Ok(value) => ("result", value.clone()),
                Err(failure) => ("error", failure.json()),
            };
            let on = self.place.on.as_deref();
            output::print_json(&json!({
                name: value,
                "session": self.session.to_string(),
                "host": on.map_or("embedded".to_owned(), with_port),
                "total_ns": u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX),
            }))?;
            return result.map(|_| ());
        }
        output::print_json(&result?)
    }

    async fn result(&self, arguments: Json) -> Result<Json, Failure> {
        if let Some(on) = &self.place.on {
            let by = By::Host(CallLimits::default());
            return on_host(on, self.place.trust, async |host| {
                let session = host.session(self.session).await?;
                self.call_in(&session, arguments, by).await
            })
            .await;
        }
        let mut local = LocalSession::find(&home()?, self.session)?;
        let host = embedded()?;
        let session = host.open_session(&local.bundle()?).await?;
        let by = By::Embedded(CallLimits::default());
        let result = self.call_in(&session, arguments, by).await;
        // Whatever came of the call: what the session is now is what the next command finds.
        let info = host.sessions().await?;
        match info.iter().find(|it| it.session == session.id()) {
            Some(info) if info.state == SessionState::Poisoned => local.poison(&info.why)?,
            _ => local.keep(&session.save().await?)?,
        }
        result
    }

    async fn call_in(&self, session: &Session, arguments: Json, by: By) -> Result<Json, Failure> {
        let screen = Screen::new();
        let (output, progress) = (screen.clone(), screen.clone());
        let mut call = session
            .call(self.callable.as_str(), arguments)?
            .on_output(move |stream, bytes| output.output(stream, bytes))
            .on_progress(move |done, total| progress.progress(done, total));
        if let Some(seed) = self.seed {
            call = call.seed(seed);
        }
        let mut signals = Signals::catch()?;
        let result = tokio::select! {
            result = call => Some(result),
            _ = signals.next() => None,
        };
        screen.finish();
        let Some(result) = result else {
            screen.end_line();
            return Err(exit::interrupted());
        };
        result.map_err(|error| match error {
            CallError::Refused(refused) => refusal::failure(&refused, by),
            error @ CallError::Failed(_) => {
                exit::call_failure(error, |_| unreachable!()).help(format!(
                    "the session is poisoned now: see spore session restore {}",
                    self.session
                ))
            }
            error => exit::call_failure(error, |error| Failure::guest_error(&self.callable, error)),
        })
    }
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
    let mut how = state(info.state).to_owned();
    if !info.why.is_empty() {
        how.push_str(&format!(": {}", plain(&info.why)));
    }
    [
        info.session.to_string(),
        plain(&info.name),
        size(info.memory_bytes),
        format!("idle {idle} s"),
        how,
    ]
}

fn info_json(info: &SessionInfo) -> Json {
    json!({
        "session": info.session.to_string(),
        "bundle": info.bundle.to_string(),
        "name": info.name,
        "state": state(info.state),
        "why": info.why,
        "memory_bytes": info.memory_bytes,
        "calls": info.calls,
        "idle_ms": info.idle_ms,
        "saved": info.saved.map(|id| id.to_string()),
    })
}

impl Save {
    fn run(self) -> Result<(), Failure> {
        let bundle = match &self.place.on {
            None => LocalSession::find(&home()?, self.session)?.save()?,
            Some(on) => with_session(on, self.place.trust, self.session, async |session| {
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
                Ok(session.restore().await?)
            }),
        }
    }
}

impl Move {
    fn run(self) -> Result<(), Failure> {
        let id = runtime()?.block_on(self.moved())?;
        output::print(&format!("{id}\n"))
    }

    async fn moved(&self) -> Result<SessionId, Failure> {
        let to = Place {
            on: (self.to != "here").then(|| self.to.clone()),
            trust: Trust { key: None },
        };
        let Some(on) = &self.place.on else {
            // Its folder is locked until it is there.
            let local = LocalSession::find(&home()?, self.session)?;
            let id = open(&to, &local.bundle()?, None).await?;
            if let Some(on) = &to.on {
                // On the disk there before it goes from the disk here.
                on_host(on, to.trust, async |host| {
                    host.session(id).await?.save().await?;
                    Ok(())
                })
                .await?;
            }
            local.close()?;
            return Ok(id);
        };
        on_host(on, self.place.trust, async |host| {
            let session = host.session(self.session).await?;
            if let Some(on) = &to.on {
                return on_host(on, to.trust, async |other| {
                    Ok(session.move_to(other).await?.id())
                })
                .await;
            }
            let saved = session.save().await?;
            let id = open(&to, &saved, None).await?;
            let closed = session.close_unchanged(&saved).await;
            // No other answer says that it goes on where it was.
            if let Err(CallError::Refused(refused)) = &closed
                && refused.code == RefusalCode::SessionChanged
            {
                close(&to, id).await?;
            }
            closed?;
            Ok(id)
        })
        .await
    }
}

impl Close {
    fn run(self) -> Result<(), Failure> {
        runtime()?.block_on(close(&self.place, self.session))
    }
}

async fn close(place: &Place, id: SessionId) -> Result<(), Failure> {
    match &place.on {
        None => LocalSession::find(&home()?, id)?.close(),
        Some(on) => {
            on_host(on, place.trust, async |host| {
                Ok(host.session(id).await?.close().await?)
            })
            .await
        }
    }
}
