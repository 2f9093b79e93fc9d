//! The road of every call: from the environment and standard input to the plugin's verb, and back to standard output.
//!
//! | step | the reference's name |
//! |---|---|
//! | `main` only names the plugin | `skel.PluginMain` |
//! | [`plugin_main`] turns an error into JSON and exit status 1 | `PluginMain` |
//! | [`Dispatcher::plugin_main_with_error`] does all that can fail | `PluginMainWithError` |
//! | [`Dispatcher`] owns the environment getter, the three streams, the decoder and the reconciler of versions | `dispatcher` |
//! | `CNI_*` are read and judged, then the configuration from standard input | `getCmdArgsFromEnv` |
//! | the network's name is judged | `validateConfig` |
//! | configuration and plugin agree on a version | `checkVersionAndCall` |
//! | the container's namespace is not the plugin's own | `ns.CheckNetNS` |
//! | the plugin's verb | `CNIFuncs` |
//! | the result is printed in the version of the configuration | `PrintResult` |
//!
//! The order is the reference's, for the first failure is the one that is told. One thing comes earlier: the namespace is
//! compared before the plugin works, not after. Standard output carries one JSON document whatever happens: what a plugin or
//! a library prints goes to standard error, and a panic becomes an error of code 999 with the undo run.
//!
//! This is the only file of the house that knows the process it runs in; [`run`] does the same in memory.

#![expect(clippy::disallowed_methods, reason = "the process that a plugin is belongs to this file")]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use cni_linux::{Netns, Undo};
use cni_spec::{
    Code, Command, ContainerId, Doing, Error, InterfaceName, NetworkName, Parameter, Result, Version,
};
use cni_spec::{json, version};
use libcni::{Added, Invocation, Invoke, Reply};
use serde::Deserialize;

use crate::delegates::Delegates;
use crate::plugin::Entry;
use crate::request::Request;

/// The most that is read from standard input, in bytes: configurations are a thousand times smaller.
pub const MAX_CONFIG: u64 = 64 << 20;

/// The program that a plugin is part of.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What the about text calls the version of the build.
    pub version: &'static str,
    /// The plugins of this program, which delegate to each other without a process.
    pub plugins: &'static [Entry],
}

impl Default for Program {
    fn default() -> Self {
        Program { version: "version unknown", plugins: &[] }
    }
}

/// Everything that a call touches outside itself. The streams are parameters, so that all of it runs in a test.
pub struct Dispatcher<'a> {
    /// The environment getter.
    pub getenv: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where the configuration comes from.
    pub stdin: &'a mut dyn Read,
    /// Where the reply goes, and nothing else.
    pub stdout: &'a mut dyn Write,
    /// Where everything else goes.
    pub stderr: &'a mut dyn Write,
    /// The decoder for the configuration's version, and the version reconciler.
    pub versions: Versions,
    /// The program that this is.
    pub program: &'a Program,
}

/// Runs a plugin as this process, and says how to leave it.
#[doc(alias = "PluginMain")]
pub fn plugin_main(entry: &Entry, program: &Program) -> ExitCode {
    let mut stdout: Box<dyn Write> = match divert_stdout() {
        Ok(file) => Box::new(file),
        Err(_) => Box::new(io::stdout()),
    };
    let mut dispatcher = Dispatcher {
        getenv: &|name| std::env::var_os(name),
        stdin: &mut io::stdin(),
        stdout: &mut stdout,
        stderr: &mut io::stderr(),
        versions: Versions::default(),
        program,
    };
    ExitCode::from(dispatcher.plugin_main(entry))
}

/// Runs a plugin in memory. A failed ADD has been undone by the time this returns; a reply counts as delivered.
///
/// # Errors
/// The error object that the plugin would have printed.
pub fn run(entry: &Entry, invocation: &Invocation, delegates: Arc<dyn Invoke>) -> Result<Reply> {
    check_parameters(invocation)?;
    let mut attempt = Attempt::default();
    let reply = Versions::default().serve(entry, invocation, delegates, &mut attempt);
    attempt.finish(reply)
}

impl Dispatcher<'_> {
    /// The whole road; the exit status is 1 where an error had to be printed.
    pub fn plugin_main(&mut self, entry: &Entry) -> u8 {
        let mut version = Version::CURRENT;
        let Err(error) = self.plugin_main_with_error(entry, &mut version) else { return 0 };
        if let Err(e) = self.print(&error.to_json(version)) {
            // Nobody reads the answer; perhaps somebody reads the log.
            let _ = writeln!(self.stderr, "{error} (and standard output: {e})");
        }
        1
    }

    /// The road without its end: an error is returned instead of printed. `version` becomes the one to print it in.
    ///
    /// # Errors
    /// Whatever went wrong first; a failed ADD has been undone.
    #[doc(alias = "PluginMainWithError")]
    pub fn plugin_main_with_error(&mut self, entry: &Entry, version: &mut Version) -> Result<()> {
        if self.getenv("CNI_COMMAND")?.is_empty() {
            return self.about(entry).code(Code::IO);
        }
        let invocation = self.invocation()?;
        let delegates = Arc::new(Delegates::new(&invocation.path, self.program.plugins));
        let mut attempt = Attempt::default();
        let delivered = self.versions.serve(entry, &invocation, delegates, &mut attempt).and_then(|reply| {
            self.deliver(&reply, entry).code(Code::IO).doing("writing the answer to standard output")
        });
        *version = attempt.version;
        attempt.finish(delivered)
    }

    /// Called without a command, by a person: says what this is.
    fn about(&mut self, entry: &Entry) -> io::Result<()> {
        let versions: Vec<&str> = entry.versions.iter().map(|v| v.as_str()).collect();
        writeln!(self.stderr, "CNI {} plugin {}", entry.name, self.program.version)?;
        writeln!(self.stderr, "CNI protocol versions supported: {}", versions.join(", "))
    }

    /// Reads the parameters, judges them, and only then reads the configuration: a plugin started by hand must not
    /// wait for input that it would refuse anyway. VERSION has no configuration, and no parameters either.
    fn invocation(&mut self) -> Result<Invocation> {
        let mut invocation = Invocation { command: self.getenv("CNI_COMMAND")?, ..Invocation::default() };
        let command = Command::known(&invocation.command);
        if command == Some(Command::Version) {
            return Ok(invocation);
        }
        for parameter in Parameter::ALL.into_iter().skip(1) {
            *invocation.parameter_mut(parameter) = match self.getenv(parameter.variable()) {
                Err(_) if command.is_some_and(|c| !c.reads(parameter)) => String::new(),
                value => value?,
            };
        }
        // Whoever traces has broken its own trace if this is no text, and nothing else.
        invocation.trace.traceparent = self.getenv("TRACEPARENT").unwrap_or_default();
        invocation.trace.tracestate = self.getenv("TRACESTATE").unwrap_or_default();
        invocation.trace.baggage = self.getenv("BAGGAGE").unwrap_or_default();
        check_parameters(&invocation)?;
        let read = (&mut *self.stdin).take(MAX_CONFIG + 1).read_to_end(&mut invocation.config);
        let length = read
            .map_err(|e| Error::new(Code::IO, format!("error reading from stdin: {}", Error::from(e).msg)))?;
        if length as u64 > MAX_CONFIG {
            let text =
                format!("error reading from stdin: more than {} MiB of configuration", MAX_CONFIG >> 20);
            return Err(Error::new(Code::IO, text));
        }
        Ok(invocation)
    }

    /// A variable; empty where it is not set.
    fn getenv(&self, name: &str) -> Result<String> {
        let Some(value) = (self.getenv)(name) else { return Ok(String::new()) };
        value.into_string().map_err(|value| {
            Error::new(Code::INVALID_ENVIRONMENT, format!("{name} is not UTF-8: {}", value.to_string_lossy()))
        })
    }

    fn deliver(&mut self, reply: &Reply, entry: &Entry) -> io::Result<()> {
        match reply {
            Reply::Added(added) => self.print(added.document.get()),
            Reply::Versions(_) => self.print(&version::reply(entry.versions)),
            Reply::Nothing => Ok(()),
        }
    }

    fn print(&mut self, document: &str) -> io::Result<()> {
        self.stdout.write_all(document.as_bytes())?;
        self.stdout.flush()
    }
}

/// How configuration and plugin come to speak the same version.
#[derive(Clone, Copy)]
pub struct Versions {
    /// The decoder: the configuration's `cniVersion`.
    #[doc(alias = "ConfigDecoder")]
    pub decode: fn(&[u8]) -> Result<String>,
    /// The reconciler: whether the command may be run, and in which version.
    #[doc(alias = "Reconciler")]
    pub reconcile: fn(Command, &str, &[Version]) -> Result<Version>,
}

impl Default for Versions {
    fn default() -> Self {
        Versions { decode: decode_config_version, reconcile: version::reconcile }
    }
}

/// What must be known of a call even if it fails.
struct Attempt {
    /// What it has made so far.
    undo: Undo,
    /// The version to answer in.
    version: Version,
}

impl Default for Attempt {
    fn default() -> Self {
        Attempt { undo: Undo::new(), version: Version::CURRENT }
    }
}

impl Attempt {
    /// Keeps what a success has made, and undoes what a failure has; what could not be undone is told along with it.
    fn finish<T>(self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Ok(delivered) => {
                self.undo.keep();
                Ok(delivered)
            }
            Err(error) => Err(match self.undo.run() {
                Ok(()) => error,
                Err(left) => error.with_details(left.to_string()),
            }),
        }
    }
}

impl Versions {
    /// The part of the road that needs no process: what happens to an invocation whose parameters have been judged.
    fn serve(
        self,
        entry: &Entry,
        invocation: &Invocation,
        delegates: Arc<dyn Invoke>,
        attempt: &mut Attempt,
    ) -> Result<Reply> {
        if invocation.command == Command::Version.as_str() {
            return Ok(Reply::Versions(entry.versions.iter().map(Version::to_string).collect()));
        }
        let network = network_name(&invocation.config)?;
        let Some(command) = Command::known(&invocation.command) else {
            let text = format!("unknown CNI_COMMAND: {}", invocation.command);
            return Err(Error::new(Code::INVALID_ENVIRONMENT, text));
        };
        let wanted = (self.decode)(&invocation.config)?;
        attempt.version = (self.reconcile)(command, &wanted, entry.versions)?;
        if matches!(command, Command::Add | Command::Del) {
            refuse_own_namespace(invocation)?;
        }
        let request = Request::new(command, entry.name, invocation, network, attempt.version, delegates)?;
        match (entry.call)(invocation, &request, &mut attempt.undo)? {
            Some(result) => Ok(Reply::Added(Box::new(Added::new(result, attempt.version)?))),
            None => Ok(Reply::Nothing),
        }
    }
}

/// Every variable that is there must be valid, and every one that is required must be there: in this order, and
/// all that are missing are told at once.
fn check_parameters(invocation: &Invocation) -> Result<()> {
    // A command that nobody knows requires nothing; it is refused later, as the reference does.
    let command = Command::known(&invocation.command);
    let mut missing = Vec::new();
    for parameter in Parameter::ALL {
        let required = parameter == Parameter::Command || command.is_some_and(|c| c.requires(parameter));
        match invocation.parameter(parameter) {
            _ if !required => {}
            "" => missing.push(parameter.variable()),
            id if parameter == Parameter::ContainerId => ContainerId::parse(id).map(drop)?,
            name if parameter == Parameter::IfName => InterfaceName::parse(name).map(drop)?,
            _ => {}
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!("required env variables [{}] missing", missing.join(","));
    Err(Error::new(Code::INVALID_ENVIRONMENT, text))
}

fn network_name(config: &[u8]) -> Result<NetworkName> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Name {
        name: String,
    }
    let config: Name = json::decode(config)
        .map_err(|e| Error::new(Code::DECODE, format!("error unmarshall network config: {e}")))?;
    NetworkName::parse(&config.name)
}

/// The configuration's `cniVersion`; 0.1.0 where there is none.
#[doc(alias = "ConfigDecoder")]
pub fn decode_config_version(config: &[u8]) -> Result<String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Label {
        cni_version: String,
    }
    let label: Label = json::decode(config)
        .map_err(|e| Error::new(Code::DECODE, format!("decoding version from network config: {e}")))?;
    Ok(if label.cni_version.is_empty() { Version::DEFAULT.to_string() } else { label.cni_version })
}

/// A plugin configuration that is JSON but not the plugin's.
pub(crate) fn undecodable(plugin: &str, error: &json::DecodeError) -> Error {
    Error::new(Code::DECODE, format!("failed to load netconf: {plugin}: {error}"))
}

/// A container whose namespace is the plugin's own would have the host's network changed (the reference's `CheckNetNS`).
fn refuse_own_namespace(invocation: &Invocation) -> Result<()> {
    let overridden = &invocation.netns_override;
    if overridden == "1" || overridden.eq_ignore_ascii_case("TRUE") {
        return Ok(());
    }
    if Netns::is_current(&invocation.netns).code(Code::INVALID_NETNS)? {
        let text = "plugin's netns and netns from CNI_NETNS should not be the same";
        return Err(Error::new(Code::INVALID_NETNS, text));
    }
    Ok(())
}

/// Keeps standard output for the reply: whatever else writes to descriptor 1 from here on, this process or its children,
/// writes to standard error.
fn divert_stdout() -> io::Result<File> {
    let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(File::from(stdout))
}
