//! `spore run`: calls a callable, here or on a host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use spore_bundle::{Grant, Manifest};
use spore_client::{
    Bundle, BundleId, CallError, CallLimits, Completed, Dynamic, Host, Items, Limits, Persist,
    Setup, Timing, with_port,
};
use spore_host::MEMORY_BYTES;
use spore_transport::units::size_text;
use spore_value::Signature;

use crate::arguments::{self, Trust};
use crate::connect::{connect, runtime};
use crate::exit::{self, Exit, Failure, OrExit};
use crate::items::{self, Printed};
use crate::refusal::{self, By};
use crate::screen::Screen;
use crate::signals::Signals;
use crate::{hint, output};

/// Call a callable in a host of this process, or on another machine
#[derive(clap::Args)]
#[command(after_help = "\
Example:
  spore run closure.spore scale '[14.0]' --captures '{\"factor\": 3.0}'
  spore run triple.spore '[14.0]' --on board.local
  id=$(spore run steps.spore pi '[5000000000]' --job --on board.local)

The result is written to standard output as JSON, what the guest prints to standard error.
With --json, one object: result or error, timing, host, output_cut.

The items of a callable that emits them are written as they come, one line of JSON each.
With --json, one object a line: item and sequence, and at the end the one above.")]
pub(crate) struct Run {
    /// The bundle: a file, or with --on the id of one that was sent
    #[arg(value_name = "FILE|ID")]
    bundle: String,
    /// The callable: its name in full, or the last part. May be left out when there is only one,
    /// or when captures are bound to one
    #[arg(allow_negative_numbers = true)]
    callable: Option<String>,
    /// The arguments: a JSON array such as '["text", 1.5]', @FILE, or - for standard input
    /// [default: []]
    #[arg(value_name = "ARGS-JSON", allow_negative_numbers = true)]
    arguments: Option<String>,
    /// Words too many, to say what was meant
    #[arg(hide = true, allow_negative_numbers = true)]
    more: Vec<String>,
    /// The host: NAME, NAME:PORT, ADDRESS or ADDRESS:PORT
    // `send` has it as --to, and one is easily typed for the other.
    #[arg(long, value_name = "HOST", alias = "to", value_parser = arguments::host)]
    on: Option<String>,
    #[command(flatten)]
    trust: Trust,
    /// Start a job: print its id and return at once. The host goes on with it, and `spore job` asks
    /// for it
    #[arg(long, conflicts_with = "deadline")]
    job: bool,
    /// How often the host makes the job durable: off, or a time. By default as it is configured
    #[arg(long, value_name = "off|TIME", value_parser = arguments::persist, requires = "job")]
    persist: Option<Persist>,
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
    /// From when the deadline counts
    #[arg(skip = Instant::now())]
    began: Instant,
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
    /// Largest code of the bundle, likewise. On a host, what is larger is not sent
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    code: Option<u64>,
    /// Largest state of the bundle, likewise: captures, or an image with its blocks, but for one that
    /// only the host has, whose index counts
    #[arg(long, value_name = "SIZE", value_parser = arguments::size)]
    state: Option<u64>,
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
    /// What was to be written is written
    told: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended {
            result: Err(failure),
            timing: None,
            output_cut: false,
            told: false,
        }
    }
}

impl Run {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Ended {
            result,
            timing,
            output_cut,
            told,
        } = match self.ended() {
            Ok(ended) => ended,
            Err(failure) => failure.into(),
        };
        if self.json && !(self.job && result.is_ok()) {
            let (name, value) = match &result {
                Ok(value) => ("result", value.clone()),
                Err(failure) => ("error", failure.json()),
            };
            let host = self.on.as_deref().map_or("embedded".to_owned(), with_port);
            let object = json!({
                name: value,
                "timing": timing.map(|(timing, total)| timing_json(&timing, total)),
                "host": host,
                "output_cut": output_cut,
            });
            match told {
                // On a line of its own, as the items before it.
                true => output::print(&format!("{}\n", output::json_line(&object)))?,
                false => output::print_json(&object)?,
            }
            return result.map(|_| ());
        }
        match (result?, told) {
            (_, true) => Ok(()),
            (value, false) => output::print_json(&value),
        }
    }

    fn ended(&self) -> Result<Ended, Failure> {
        if self.on.is_none() && self.trust.key.is_some() {
            return Err(
                Failure::usage("--trust is the key of a host, and none is named")
                    .help("add: --on HOST"),
            );
        }
        if self.job && self.on.is_none() {
            let what = "a job goes on when this command has ended, so that a host must have it";
            return Err(Failure::usage(what).help("add: --on HOST"));
        }
        self.check_memory()?;
        if let Some(id) = self.id() {
            let Some(on) = &self.on else {
                return Err(Failure::usage(format!("there is no file {}", self.bundle))
                    .help("an id names a bundle that was sent to a host: add --on HOST"));
            };
            if self.captures.is_some() {
                return Err(Failure::usage("captures are bound to a file, not to an id")
                    .help("spore capture FILE CALLABLE JSON -o OUT, then run OUT"));
            }
            let arguments = self.arguments(None)?;
            return runtime()?.block_on(async {
                let host = self.in_time(connect(on, self.trust)).await?;
                let ended = self.call_shipped(&host, id, arguments).await;
                host.close().await;
                ended
            });
        }
        let bundle = Bundle::open_with(&self.bundle, &arguments::BUNDLE_LIMITS)?;
        hint::holds_no_run(Path::new(&self.bundle), &bundle)?;
        let name = self.callable_of(bundle.inner().manifest())?;
        let mut callee = bundle.callable(&name)?;
        let arguments = self.arguments(Some(&callee))?;
        if let Some(text) = &self.captures {
            let captures = arguments::captures(&callee, &[text], |json| {
                self.command(self.words().0, &output::json_line(&arguments), Some(json))
            })?;
            callee = callee.capture(&captures)?;
        }
        self.check_bound(&callee)?;
        runtime()?.block_on(async {
            let host = match &self.on {
                Some(on) => self.in_time(connect(on, self.trust)).await?,
                None => {
                    self.check_grants(bundle.inner().manifest(), &name)?;
                    Host::embedded_with(self.setup()).or_exit(Exit::Local)?
                }
            };
            let ended = self.call(&host, &callee, arguments).await;
            host.close().await;
            ended
        })
    }

    /// Time until the deadline.
    fn left(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_sub(self.began.elapsed()))
    }

    /// What comes before the guest can run, until the deadline.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let Some(left) = self.left() else {
            return work.await;
        };
        let passed = "the deadline passed before the host was asked to run anything";
        let done = tokio::time::timeout(left, work).await;
        done.unwrap_or_else(|_| Err(Failure::new(Exit::Local, passed).kind("deadline")))
    }

    /// The name of the callable, and the words that stand for the arguments: one, if all is well.
    /// A callable's name does not begin as the arguments do.
    fn words(&self) -> (Option<&str>, Vec<&str>) {
        let first = self.callable.as_deref();
        let is_arguments =
            |text: &&str| arguments::is_elsewhere(text) || text.trim_start().starts_with('[');
        let (name, unnamed) = match first.filter(is_arguments) {
            Some(_) => (None, first),
            None => (first, None),
        };
        let others = self.arguments.iter().chain(&self.more);
        let words = unnamed.into_iter().chain(others.map(String::as_str));
        (name, words.collect())
    }

    /// The name in full of the callable that is named, or else is the only one or that of the
    /// captures.
    fn callable_of(&self, manifest: &Manifest) -> Result<String, Failure> {
        let (name, words) = self.words();
        let default = manifest.default_callable();
        let Some(name) = name else {
            return Ok(default.or_exit(Exit::Usage)?.1.name.clone());
        };
        let error = match manifest.callable(name) {
            Ok((_, callable)) => return Ok(callable.name.clone()),
            Err(error) => error,
        };
        // Perhaps it is no name, but an argument without its array.
        let words: Vec<_> = [name].into_iter().chain(words).collect();
        let named = hint::may_name_a_callable(name);
        let failure = match named {
            true => Failure::of(Exit::Usage, &error),
            false => Failure::usage(format!(
                "expected the name of a callable or a JSON array of arguments, found {name}"
            )),
        };
        let array =
            |word: &&str| word.trim_start().starts_with('[') || arguments::is_elsewhere(word);
        if words.last().is_some_and(array) {
            return Err(failure);
        }
        Err(match default {
            Ok((_, callable)) => match hint::arguments(Some(&callable.signature), &words) {
                Some(array) => self.meant(failure, None, &array, named),
                None if named => failure,
                None => failure.help(takes(&callable.name, &callable.signature)),
            },
            // It is to be named first.
            Err(_) if named => failure,
            Err(several) => failure
                .help(several)
                .help(match hint::arguments(None, &words) {
                    Some(array) => self.command(Some("CALLABLE"), &output::json_line(&array), None),
                    None => "the arguments are one JSON array".to_owned(),
                }),
        })
    }

    /// Reads the arguments, for this callable where it is here already.
    fn arguments(&self, callee: Option<&Dynamic>) -> Result<Json, Failure> {
        let (name, words) = self.words();
        let [text, more @ ..] = &words[..] else {
            return match callee {
                Some(callee) if !callee.signature().parameters.is_empty() => {
                    Err(Failure::usage(takes(callee.name(), callee.signature())))
                }
                _ => Ok(json!([])),
            };
        };
        let failure = match arguments::json("the arguments", text) {
            Ok(Json::Array(list)) if more.is_empty() => return Ok(Json::Array(list)),
            Ok(other) if more.is_empty() => Failure::usage(format!(
                "expected a JSON array of arguments, found {}",
                hint::kind(&other)
            )),
            Err(failure) if more.is_empty() => failure,
            _ => Failure::usage("the arguments are one JSON array, and several words stand there"),
        };
        if arguments::is_elsewhere(text) {
            return Err(failure);
        }
        let meant = hint::arguments(callee.map(Dynamic::signature), &words);
        Err(match (meant, callee) {
            (Some(array), _) => self.meant(failure, name, &array, false),
            (None, Some(callee)) => failure.help(takes(callee.name(), callee.signature())),
            (None, None) => failure.help("an array is like '[\"text\", 1.5]'"),
        })
    }

    /// Adds the command as it was meant, perhaps.
    fn meant(&self, failure: Failure, name: Option<&str>, array: &Json, perhaps: bool) -> Failure {
        let command = self.command(name, &output::json_line(array), self.captures.as_deref());
        let when = match perhaps {
            true => "if that is an argument: arguments",
            false => "arguments",
        };
        failure.help(format!(
            "{when} are a JSON array, in single quotes: {command}"
        ))
    }

    /// This command with other arguments and captures.
    fn command(&self, name: Option<&str>, array: &str, captures: Option<&str>) -> String {
        let mut words = vec!["spore", "run", &self.bundle];
        words.extend(name);
        words.push(array);
        for (option, value) in [("--captures", captures), ("--on", self.on.as_deref())] {
            words.extend(value.into_iter().flat_map(|value| [option, value]));
        }
        hint::shell(words)
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
        let message = format!(
            "{} captures {}, and nothing is bound to it",
            callee.name(),
            names.join(", ")
        );
        Err(Failure::usage(message).help(format!(
            "add: --captures {}",
            hint::captures_to_fill_in(signature)
        )))
    }

    async fn call_shipped(
        &self,
        host: &Host,
        id: BundleId,
        arguments: Json,
    ) -> Result<Ended, Failure> {
        let shipped = async { Ok(host.shipped(id).await?) };
        let shipped = self.in_time(shipped).await?;
        let callee = shipped.callable(&self.callable_of(shipped.manifest())?)?;
        self.check_bound(&callee)?;
        self.call(host, &callee, arguments).await
    }

    async fn call(&self, host: &Host, callee: &Dynamic, args: Json) -> Result<Ended, Failure> {
        if self.job {
            return self.start(host, callee, args).await;
        }
        if callee.emits_items() {
            return self.stream(host, callee, args).await;
        }
        let screen = Screen::new();
        let (output, progress) = (screen.clone(), screen.clone());
        let mut call = host
            .call(callee, args)
            .limits(self.limits())
            .seed(self.seed)
            .on_output(move |stream, bytes| output.output(stream, bytes))
            .on_progress(move |done, total| progress.progress(done, total));
        if let Some(left) = self.left() {
            call = call.deadline(left);
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
            screen.end_line();
            return Err(exit::interrupted());
        };
        let result = result.map_err(|error| self.failure(callee, error));
        self.warn(&screen, output_cut, result.is_err());
        Ok(Ended {
            result,
            timing: timing.map(|timing| (timing, total)),
            output_cut,
            told: false,
        })
    }

    /// Starts a job, and prints its id.
    async fn start(&self, host: &Host, callee: &Dynamic, args: Json) -> Result<Ended, Failure> {
        let start = host
            .start(callee, args)
            .limits(self.limits())
            .seed(self.seed)
            .persist(self.persist.unwrap_or_default());
        let id = start.await?.id();
        match self.json {
            true => {
                let on = self.on.as_deref().map(with_port);
                output::print_json(&json!({ "job": id.to_string(), "host": on }))?;
            }
            false => output::print(&format!("{id}\n"))?,
        }
        Ok(Ended {
            result: Ok(Json::Null),
            timing: None,
            output_cut: false,
            told: true,
        })
    }

    /// Prints items as they come.
    async fn stream(&self, host: &Host, callee: &Dynamic, args: Json) -> Result<Ended, Failure> {
        let screen = Screen::new();
        let (output, progress) = (screen.clone(), screen.clone());
        let mut call = host
            .stream(callee, args)
            .limits(self.limits())
            .seed(self.seed)
            .on_output(move |stream, bytes| output.output(stream, bytes))
            .on_progress(move |done, total| progress.progress(done, total));
        if let Some(left) = self.left() {
            call = call.deadline(left);
        }
        let mut signals = Signals::catch()?;
        let began = Instant::now();
        let printed = tokio::select! {
            printed = items::print(call, &screen, self.json) => Some(printed),
            _ = signals.next() => None,
        };
        let total = began.elapsed();
        screen.finish();
        let Some(printed) = printed else {
            screen.end_line();
            return Err(exit::interrupted());
        };
        let Printed { ended, items } = printed?;
        // That nobody reads on is no failure.
        let result = ended.unwrap_or(Ok(()));
        let result = result.map_err(|error| self.failure(callee, error));
        let timing = items.as_ref().and_then(Items::timing);
        let output_cut = items.is_some_and(|items| items.output_cut());
        self.warn(&screen, output_cut, result.is_err());
        Ok(Ended {
            result: result.map(|()| Json::Null),
            timing: timing.map(|timing| (timing, total)),
            output_cut,
            told: true,
        })
    }

    fn failure(&self, callee: &Dynamic, error: CallError<Json>) -> Failure {
        match error {
            CallError::Refused(refused) => refusal::failure(&refused, self.by()),
            error => exit::call_failure(error, |error| Failure::guest_error(callee.name(), error)),
        }
    }

    /// Warns of output that was cut, and ends the guest's last line if more is to be said.
    fn warn(&self, screen: &Screen, output_cut: bool, failed: bool) {
        let warns = output_cut && !self.json;
        if warns || failed {
            screen.end_line();
        }
        if warns {
            let more = match self.on {
                None => "allow more with --output SIZE",
                Some(_) => "`spore status HOST` shows the host's limit; --output only lowers it",
            };
            let warning = "warning: the guest's output went beyond its limit and was cut";
            output::to_stderr(format!("{warning}\nhelp: {more}\n").as_bytes());
        }
    }

    /// What the command asks of a host.
    fn limits(&self) -> CallLimits {
        CallLimits {
            wall_ms: self.wall.map(millis),
            memory_bytes: self.memory,
            result_bytes: self.result,
            output_bytes: self.output,
            code_bytes: self.code,
            state_bytes: self.state,
        }
    }

    /// Who refuses a call, if anyone does.
    fn by(&self) -> By {
        if self.on.is_some() {
            return By::Host(self.limits());
        }
        let limits = self.embedded_limits();
        By::Embedded(CallLimits {
            wall_ms: Some(millis(limits.wall)),
            memory_bytes: Some(limits.memory),
            result_bytes: Some(limits.result),
            output_bytes: Some(limits.output),
            code_bytes: Some(limits.code),
            state_bytes: Some(limits.state),
        })
    }

    fn check_memory(&self) -> Result<(), Failure> {
        if self
            .memory
            .is_none_or(|memory| MEMORY_BYTES.contains(&memory))
        {
            return Ok(());
        }
        let [least, most] = [MEMORY_BYTES.start(), MEMORY_BYTES.end()].map(|it| size_text(*it));
        Err(Failure::usage(format!(
            "--memory is from {least} to {most}"
        )))
    }

    /// Refuses what the host in this process would refuse too, but as if it had been set up by
    /// somebody else.
    fn check_grants(&self, manifest: &Manifest, name: &str) -> Result<(), Failure> {
        let (_, callable) = manifest.callable(name).or_exit(Exit::Usage)?;
        let given = |name: &str| self.directories.iter().any(|(given, _)| given == name);
        let directories = callable.grants.iter().filter_map(|grant| match grant {
            Grant::Directory(name) if !given(name) => Some(name.as_str()),
            _ => None,
        });
        match directories.collect::<Vec<_>>()[..] {
            [] => Ok(()),
            ref lacking => Err(refusal::not_granted(name, lacking)),
        }
    }

    /// The limits of the host in this process. Who runs it sets them, upwards too.
    fn embedded_limits(&self) -> Limits {
        let defaults = Limits::default();
        Limits {
            wall: self.wall.unwrap_or(defaults.wall),
            memory: self.memory.unwrap_or(defaults.memory),
            result: self.result.unwrap_or(defaults.result),
            output: self.output.unwrap_or(defaults.output),
            code: self.code.unwrap_or(defaults.code),
            state: self.state.unwrap_or(defaults.state),
            // One call is made, and room in memory for more would only take time to lay out.
            instances: 1,
            ..defaults
        }
    }

    /// The host in this process.
    fn setup(&self) -> Setup {
        let mut setup = Setup {
            limits: self.embedded_limits(),
            workers: Some(1),
            ..Setup::default()
        };
        setup.grants.directories = self.directories.iter().cloned().collect::<BTreeMap<_, _>>();
        setup
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a callable takes, for a person.
fn takes(name: &str, signature: &Signature) -> String {
    let named: Vec<_> = signature
        .parameters
        .iter()
        .map(|it| crate::signature::named(it, &signature.definitions))
        .collect();
    let takes = match named[..] {
        [] => "no arguments".to_owned(),
        _ => format!("one JSON array: [{}]", named.join(", ")),
    };
    format!("{} takes {takes}", output::plain(name))
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
