//! `spore run`: calls a callable, here or on a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use spore_client::{
    Bundle, BundleId, CallLimits, Completed, Dynamic, Host, Limits, Setup, Timing, with_port,
};

use crate::arguments::{self, Trust};
use crate::connect::{connect, runtime};
use crate::exit::{self, Exit, Failure, OrExit};
use crate::output;
use crate::screen::Screen;
use crate::signals::Signals;

/// Call a callable in a host of this process, or on another machine
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore run closure.spore scale '[14.0]' --captures '{\"factor\": 3.0}'
  spore run triple.spore '[14.0]' --on board.local

The result is written to standard output as JSON, what the guest prints to standard error.
With --json, one object: result or error, timing, host, output_cut.")]
pub(crate) struct Run {
    /// The bundle: a file, or with --on the id of one that was sent
    #[arg(value_name = "FILE|ID")]
    bundle: String,
    /// The callable: its name in full, or the last part. May be left out when there is only one,
    /// or when captures are bound to one
    callable: Option<String>,
    /// The arguments: a JSON array, @FILE, or - for standard input [default: []]
    #[arg(value_name = "ARGS-JSON")]
    arguments: Option<String>,
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT
    #[arg(long, value_name = "HOST")]
    on: Option<String>,
    #[command(flatten)]
    trust: Trust,
    /// One JSON object with result or error, timing and host
    #[arg(long)]
    json: bool,
    /// Bind these captures first: a JSON object, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    captures: Option<String>,
    /// Where the guest's random bytes begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Give up after this time of waiting, everything included
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    deadline: Option<Duration>,
    /// Longest run of the guest. On a host, only lower than its own limit
    #[arg(long, value_name = "TIME", value_parser = arguments::duration)]
    wall: Option<Duration>,
    /// Most memory of the guest, likewise
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    memory: Option<u64>,
    /// Largest result, encoded, likewise
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    result: Option<u64>,
    /// Most output of the guest, likewise; more is left out
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    output: Option<u64>,
    /// Grant this directory to the guest, read-only. Other hosts grant by their configuration
    #[arg(
        long = "dir",
        value_name = "NAME=PATH",
        conflicts_with = "on",
        value_parser = arguments::directory
    )]
    directories: Vec<(String, PathBuf)>,
}

/// How the call ended.
struct Ended {
    result: Result<Json, Failure>,
    /// As the host says, when the guest ran, with the time of the whole call as seen from here
    timing: Option<(Timing, Duration)>,
    output_cut: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended {
            result: Err(failure),
            timing: None,
            output_cut: false,
        }
    }
}

impl Run {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Ended {
            result,
            timing,
            output_cut,
        } = match self.ended() {
            Ok(ended) => ended,
            Err(failure) => failure.into(),
        };
        if self.json {
            let (name, value) = match &result {
                Ok(value) => ("result", value.clone()),
                Err(failure) => ("error", failure.json()),
            };
            let host = self.on.as_deref().map_or("embedded".to_owned(), with_port);
            output::print_json(&json!({
                name: value,
                "timing": timing.map(|(timing, total)| timing_json(&timing, total)),
                "host": host,
                "output_cut": output_cut,
            }))?;
            return result.map(|_| ());
        }
        if output_cut {
            output::to_stderr(b"warning: the guest's output went beyond its limit and was cut\n");
        }
        output::print_json(&result?)
    }

    fn ended(&self) -> Result<Ended, Failure> {
        let (name, arguments) = self.positions();
        let arguments = match arguments {
            Some(text) => arguments::json("the arguments", text)?,
            None => json!([]),
        };
        let captures = match &self.captures {
            Some(text) => Some(arguments::json("the captures", text)?),
            None => None,
        };
        if let Some(id) = self.id() {
            let Some(on) = &self.on else {
                return Err(Failure::usage(format!("there is no file {}", self.bundle))
                    .help("an id names a bundle that was sent to a host: add --on HOST"));
            };
            if captures.is_some() {
                return Err(Failure::usage("captures are bound to a file, not to an id")
                    .help("spore capture FILE CALLABLE JSON -o OUT, then run OUT"));
            }
            return runtime()?.block_on(async {
                let host = connect(on, self.trust).await?;
                let ended = self.call_shipped(&host, id, name, arguments).await;
                host.close().await;
                ended
            });
        }
        let bundle = Bundle::open(&self.bundle)?;
        let mut callee = match name {
            Some(name) => bundle.callable(name)?,
            None => {
                let (_, callable) = bundle.inner().default_callable().or_exit(Exit::Usage)?;
                bundle.callable(&callable.name)?
            }
        };
        if let Some(captures) = captures {
            callee = callee.capture(&captures)?;
        }
        self.check_bound(&callee)?;
        runtime()?.block_on(async {
            let host = match &self.on {
                Some(on) => connect(on, self.trust).await?,
                None => Host::embedded_with(self.setup()?).or_exit(Exit::Local)?,
            };
            let ended = self.call(&host, &callee, arguments).await;
            host.close().await;
            ended
        })
    }

    /// Callable and arguments. A callable's name does not begin as the arguments do.
    fn positions(&self) -> (Option<&str>, Option<&str>) {
        let (first, second) = (self.callable.as_deref(), self.arguments.as_deref());
        let is_arguments = |text: &str| text == "-" || text.trim_start().starts_with(['[', '@']);
        match (first, second) {
            (Some(first), None) if is_arguments(first) => (None, Some(first)),
            others => others,
        }
    }

    /// The id that is given instead of a file.
    fn id(&self) -> Option<BundleId> {
        let id = self.bundle.parse().ok()?;
        (!Path::new(&self.bundle).exists()).then_some(id)
    }

    fn check_bound(&self, callee: &Dynamic) -> Result<(), Failure> {
        if callee.is_bound() {
            return Ok(());
        }
        let signature = callee.signature();
        let types = &signature.definitions;
        let names: Vec<_> = signature
            .captures
            .iter()
            .map(|it| crate::signature::named(it, types))
            .collect();
        let example: Vec<_> = signature
            .captures
            .iter()
            .map(|it| format!("\"{}\": …", it.name))
            .collect();
        let message = format!(
            "{} captures {}, and nothing is bound to it",
            callee.name(),
            names.join(", ")
        );
        Err(Failure::usage(message).help(format!("add: --captures '{{{}}}'", example.join(", "))))
    }

    async fn call_shipped(
        &self,
        host: &Host,
        id: BundleId,
        name: Option<&str>,
        arguments: Json,
    ) -> Result<Ended, Failure> {
        let shipped = host.shipped(id).await?;
        let callee = match name {
            Some(name) => shipped.callable(name)?,
            None => {
                let (_, callable) = shipped.manifest().default_callable().or_exit(Exit::Usage)?;
                shipped.callable(&callable.name)?
            }
        };
        self.check_bound(&callee)?;
        self.call(host, &callee, arguments).await
    }

    async fn call(&self, host: &Host, callee: &Dynamic, args: Json) -> Result<Ended, Failure> {
        let screen = Screen::new();
        let (output, progress) = (screen.clone(), screen.clone());
        let mut call = host
            .call(callee, args)
            .limits(self.limits())
            .seed(self.seed)
            .on_output(move |stream, bytes| output.output(stream, bytes))
            .on_progress(move |done, total| progress.progress(done, total));
        if let Some(deadline) = self.deadline {
            call = call.deadline(deadline);
        }
        let mut signals = Signals::catch()?;
        let began = Instant::now();
        let completed = tokio::select! {
            completed = call.completed() => Some(completed),
            _ = signals.next() => None,
        };
        let total = began.elapsed();
        screen.finish();
        let Some(Completed {
            result,
            timing,
            output_cut,
        }) = completed
        else {
            return Err(exit::interrupted());
        };
        let own_error = |error| Failure::guest_error(callee.name(), error);
        let result = result.map_err(|error| exit::call_failure(error, own_error));
        Ok(Ended {
            result,
            timing: timing.map(|timing| (timing, total)),
            output_cut,
        })
    }

    fn limits(&self) -> CallLimits {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        CallLimits {
            wall_ms: self.wall.map(millis),
            memory_bytes: self.memory,
            result_bytes: self.result,
            output_bytes: self.output,
        }
    }

    /// The host in this process. Who runs it sets its limits, upwards too.
    fn setup(&self) -> Result<Setup, Failure> {
        const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=4 << 30;
        let defaults = Limits::default();
        let memory = self.memory.unwrap_or(defaults.memory);
        if !MEMORY_BYTES.contains(&memory) {
            return Err(Failure::usage("--memory is from 64KiB to 4GiB"));
        }
        let limits = Limits {
            wall: self.wall.unwrap_or(defaults.wall),
            memory,
            result: self.result.unwrap_or(defaults.result),
            output: self.output.unwrap_or(defaults.output),
            // One call is made, and room in memory for more would only take time to lay out.
            instances: 1,
            ..defaults
        };
        let mut setup = Setup {
            limits,
            workers: Some(1),
            ..Setup::default()
        };
        setup.grants.directories = self.directories.iter().cloned().collect::<BTreeMap<_, _>>();
        Ok(setup)
    }
}

/// Where the time of a call went, for scripts.
fn timing_json(timing: &Timing, total: Duration) -> Json {
    json!({
        "queue_ns": timing.queue_ns,
        "transfer_ns": timing.transfer_ns,
        "compile_ns": timing.compile_ns,
        "run_ns": timing.run_ns,
        "total_ns": u64::try_from(total.as_nanos()).unwrap_or(u64::MAX),
    })
}
