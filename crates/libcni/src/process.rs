//! Plugins as executables: found in the folders of `CNI_PATH`, run with the parameters in the environment, the
//! configuration on standard input and the answer on standard output (spec §2).
//!
//! It runs one plugin and knows nothing of lists; how bytes move to and from the child is in
//! [`exchange`](self::exchange).

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use cni_spec::{Code, Error, Parameter, json};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::os_text;
use crate::invoke::{Searched, check_type, not_found};
use crate::{Invocation, Invoke, Reply};

mod exchange;

use exchange::{End, Exchange, Output};
pub use exchange::{MAX_STDERR, MAX_STDOUT, OUTPUT_GRACE};

/// How long a plugin is waited for that is just being written ("text file busy", execve(2)): installers replace
/// plugins on running hosts.
pub const BUSY_GRACE: Duration = Duration::from_secs(1);
/// How much of a plugin's output is quoted in an error, in bytes.
const MAX_QUOTE: usize = 4096;

/// Runs plugins as processes.
///
/// ```no_run
/// # use std::time::Duration;
/// let plugins = libcni::Process::search(["/opt/cni/bin"]).deadline(Duration::from_secs(30));
/// ```
///
/// A plugin inherits this process's environment, with the `CNI_*` parameters replaced and, where the invocation
/// carries a trace context, with that instead of an inherited one.
#[doc(alias("DefaultExec", "RawExec"))]
pub struct Process {
    dirs: Vec<String>,
    path: String,
    deadline: Option<Duration>,
    stderr: Mutex<Box<dyn Write + Send>>,
}

impl Process {
    /// Looks for plugins in these folders, in this order. From a list as in `CNI_PATH`: `path.split(':')`; empty
    /// names are left out, so that the current folder is never searched by accident.
    #[allow(clippy::disallowed_methods, reason = "the documented default for what plugins log")]
    pub fn search<D: Into<String>>(dirs: impl IntoIterator<Item = D>) -> Self {
        let dirs: Vec<String> = dirs.into_iter().map(Into::into).filter(|d: &String| !d.is_empty()).collect();
        let path = dirs.join(":");
        Process { dirs, path, deadline: None, stderr: Mutex::new(Box::new(io::stderr())) }
    }

    /// The longest time that a plugin may take for one invocation; without it, any time.
    ///
    /// A plugin with a deadline runs in a process group of its own. When the time is over the whole group is killed,
    /// delegates included. Without one, it stays in the group of this process, and dies with it by Ctrl-C.
    #[must_use]
    pub fn deadline(self, time: Duration) -> Self {
        Process { deadline: Some(time), ..self }
    }

    /// Where the standard error of plugins goes, after each has ended; this process's own where nothing is said. What
    /// is quoted in an error does not go there as well. Of what a plugin writes, the first [`MAX_STDERR`] bytes count.
    #[must_use]
    pub fn stderr(self, writer: impl Write + Send + 'static) -> Self {
        Process { stderr: Mutex::new(Box::new(writer)), ..self }
    }

    /// The file that is run for `plugin`: the first regular file of that name, behind symbolic links.
    ///
    /// # Errors
    /// Those of [`Invoke::find`], and a file that is not executable.
    #[doc(alias = "FindInPath")]
    pub fn locate(&self, plugin: &str) -> Result<PathBuf, Error> {
        check_type(plugin)?;
        if self.dirs.is_empty() {
            return Err(Error::failed("no paths provided"));
        }
        for dir in &self.dirs {
            let file = Path::new(dir).join(plugin);
            let Ok(metadata) = fs::metadata(&file) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let mode = metadata.permissions().mode();
            if mode & 0o111 == 0 {
                let msg = format!(
                    "plugin {plugin:?} is not executable: {} has mode {:04o}",
                    file.display(),
                    mode & 0o7777
                );
                return Err(Error::failed(msg));
            }
            return Ok(file);
        }
        let searched = |dir: &String| {
            let instead = instead_of(&Path::new(dir).join(plugin));
            Searched { folder: dir.clone(), plugins: plugins_in(dir), instead }
        };
        Err(not_found(plugin, &self.dirs.iter().map(searched).collect::<Vec<_>>()))
    }

    #[allow(clippy::disallowed_methods, reason = "this is the room's one place that runs programs")]
    fn command(&self, program: &Path, invocation: &Invocation) -> Command {
        let mut command = Command::new(program);
        // Nothing stale shines through, not even what the invocation does not set.
        for parameter in Parameter::ALL {
            command.env_remove(parameter.variable());
        }
        if !invocation.trace.is_empty() {
            for carrier in ["TRACEPARENT", "TRACESTATE", "BAGGAGE"] {
                command.env_remove(carrier);
            }
        }
        command.envs(invocation.variables());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, program: &Path, invocation: &Invocation) -> io::Result<Output> {
        // A time that is too long for the clock is any time.
        let until = self.deadline.and_then(|time| Instant::now().checked_add(time));
        let mut command = self.command(program, invocation);
        if until.is_some() {
            command.process_group(0);
        }
        let child = spawn(&mut command, until)?;
        Exchange::new(child, &invocation.config, until)?.run()
    }

    fn forward(&self, stderr: &[u8]) {
        if stderr.is_empty() {
            return;
        }
        // A writer that panicked once may still write; a log that cannot be written is no reason to fail.
        let mut writer = self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = writer.write_all(stderr).and_then(|()| writer.flush());
    }
}

impl Invoke for Process {
    fn find(&self, plugin: &str) -> Result<(), Error> {
        self.locate(plugin).map(|_| ())
    }

    fn invoke(&self, plugin: &str, invocation: &Invocation) -> Result<Reply, Error> {
        let program = self.locate(plugin)?;
        let output = self.run(&program, invocation).map_err(|e| {
            let msg =
                format!("netplugin failed with no error message: {}: {}", program.display(), os_text(&e));
            Error::new(Code::UNKNOWN, msg)
        })?;
        match output.end {
            End::Exited(status) if status.success() => {
                self.forward(&output.stderr);
                let reply =
                    Reply::decode(invocation, &output.stdout).map_err(|e| garbled(e, &output.stdout))?;
                match (&reply, error_for_result(&output.stdout)) {
                    (Reply::Added(_), Some(error)) => Err(error),
                    _ => Ok(reply),
                }
            }
            End::Exited(status) => Err(match printed_error(&output.stdout) {
                Some(error) => {
                    self.forward(&output.stderr);
                    error
                }
                None => silent_failure(&exit_text(status), &output),
            }),
            End::TimedOut => {
                let time = self.deadline.unwrap_or_default();
                let msg = format!("netplugin timed out after {time:?}: signal: killed");
                let progress = output.progress(invocation.config.len());
                Err(Error::new(Code::UNKNOWN, msg)
                    .with_details(progress)
                    .with_details(quoted_stderr(&output)))
            }
            End::TooMuch => {
                let msg = format!("netplugin printed more than {MAX_STDOUT} bytes: signal: killed");
                Err(Error::new(Code::UNKNOWN, msg).with_details(quoted_stderr(&output)))
            }
        }
    }

    fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("dirs", &self.dirs)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// Starts the child; a file that is just being written is waited for, [`BUSY_GRACE`] at most.
fn spawn(command: &mut Command, until: Option<Instant>) -> io::Result<Child> {
    let give_up = Instant::now() + BUSY_GRACE;
    let give_up = until.map_or(give_up, |until| until.min(give_up));
    let mut pause = Duration::from_millis(5);
    loop {
        match command.spawn() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && Instant::now() < give_up => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}

/// The names of the plugins in a folder, for an error: of what [`Process::locate`] would run.
fn plugins_in(dir: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| os_text(&e))? {
        let entry = entry.map_err(|e| os_text(&e))?;
        // Behind links, unlike the entry's own.
        let runnable =
            fs::metadata(entry.path()).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        if runnable {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// What a file is that was passed over although it has the plugin's name; nothing where there is none.
fn instead_of(file: &Path) -> Option<String> {
    fs::symlink_metadata(file).ok()?;
    Some(match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => "a directory".into(),
        Ok(_) => "no regular file".into(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => "a dangling link".into(),
        Err(e) => format!("a link that cannot be followed: {}", os_text(&e)),
    })
}

/// Exit status 0 and an answer that is none.
fn garbled(error: Error, stdout: &[u8]) -> Error {
    let error = error.with_code(Code::UNKNOWN);
    if json::check(stdout).is_ok() {
        return error;
    }
    let error = Error { msg: format!("failed to unmarshal raw result: {}", error.msg), ..error };
    if stdout.is_empty() {
        return error.with_details("the plugin printed nothing");
    }
    error.with_details(format!("standard output is for the result alone, it was {}", quote(stdout)))
}

/// The error object that a plugin printed before it exited with another status than 0.
///
/// If there is something before it, it is the last document that counts: the reference's own plugins print their result
/// before they notice that the namespace was their own.
fn printed_error(stdout: &[u8]) -> Option<Error> {
    let documents = serde_json::Deserializer::from_slice(stdout).into_iter::<&RawValue>();
    let last = documents.collect::<Result<Vec<_>, _>>().ok()?.pop()?;
    error_object(last.get().as_bytes()).ok()
}

/// The error object that a plugin printed although it exited with 0: nothing of it is a result, but read as one it
/// would be an empty success.
fn error_for_result(stdout: &[u8]) -> Option<Error> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Document<'a> {
        code: i64,
        msg: Option<String>,
        details: String,
        #[serde(borrow)]
        interfaces: Option<&'a RawValue>,
        #[serde(borrow)]
        ips: Option<&'a RawValue>,
        #[serde(borrow)]
        routes: Option<&'a RawValue>,
        #[serde(borrow)]
        dns: Option<&'a RawValue>,
        #[serde(borrow)]
        ip4: Option<&'a RawValue>,
        #[serde(borrow)]
        ip6: Option<&'a RawValue>,
    }
    let document: Document<'_> = json::decode(stdout).ok()?;
    let Document { code, msg, details, interfaces, ips, routes, dns, ip4, ip6 } = document;
    if code == 0 || [interfaces, ips, routes, dns, ip4, ip6].iter().any(Option::is_some) {
        return None;
    }
    Some(Error { code: u32::try_from(code).map_or(Code::UNKNOWN, Code), msg: msg?, details })
}

fn error_object(document: &[u8]) -> Result<Error, String> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Document {
        code: u32,
        msg: String,
        details: String,
    }
    let Document { code, msg, details } = json::decode(document).map_err(|e| e.to_string())?;
    if code == 0 && msg.is_empty() {
        return Err("neither code nor msg".into());
    }
    Ok(Error { code: Code(code), msg, details })
}

/// Another exit status than 0, and no error object.
fn silent_failure(exit: &str, output: &Output) -> Error {
    let failed = |msg| Error::new(Code::UNKNOWN, msg);
    match (output.stdout.is_empty(), output.stderr.is_empty()) {
        (true, true) => failed(format!("netplugin failed with no error message: {exit}")),
        (true, false) => failed(format!("netplugin failed: {}: {exit}", quote(&output.stderr))),
        (false, _) => {
            let (stdout, why) =
                (quote(&output.stdout), error_object(&output.stdout).err().unwrap_or_default());
            failed(format!(
                "netplugin failed but error parsing its diagnostic message {stdout}: {why}: {exit}"
            ))
            .with_details(quoted_stderr(output))
        }
    }
}

fn quoted_stderr(output: &Output) -> String {
    if output.stderr.is_empty() {
        String::new()
    } else {
        format!("standard error: {}", quote(&output.stderr))
    }
}

/// Output in quotes, without the white space around it; of much, the end, where the reason usually is.
fn quote(output: &[u8]) -> String {
    let output = output.trim_ascii();
    let from = output.len().saturating_sub(MAX_QUOTE);
    let more = if from == 0 { "" } else { "…" };
    format!("{more}{:?}", String::from_utf8_lossy(&output[from..]))
}

/// `exit status 1` and `signal: killed`, as Go says it.
fn exit_text(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    // signal(7)
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal: {other}"),
    };
    format!("signal: {name}{}", if status.core_dumped() { " (core dumped)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(stdout: &str, stderr: &str) -> Output {
        Output { end: End::TimedOut, stdout: stdout.into(), stderr: stderr.into(), accepted: 0 }
    }

    #[test]
    fn failures_without_an_error_object_have_the_references_texts() {
        let text = |stdout, stderr| silent_failure("exit status 1", &output(stdout, stderr)).to_string();
        assert_eq!(text("", ""), "netplugin failed with no error message: exit status 1");
        assert_eq!(text("", "no \"way\"\n"), r#"netplugin failed: "no \"way\"": exit status 1"#);
        let garbled = text("boom\n", "log");
        assert!(
            garbled.starts_with("netplugin failed but error parsing its diagnostic message \"boom\": "),
            "{garbled}"
        );
        assert!(text("{}", "").contains("message \"{}\": neither code nor msg: exit status 1"));
    }

    #[test]
    fn the_last_document_is_the_error() {
        let error = printed_error(br#"{"cniVersion":"1.0.0"} {"code":8,"msg":"m","details":"d"}"#).unwrap();
        assert_eq!((error.code, error.to_string().as_str()), (Code(8), "m; d"));
        assert_eq!(printed_error(br#"{"Msg":"m"}"#).unwrap().code, Code::UNKNOWN);
        for none in ["", "x", "{}", "[]", "{\"code\":-1}", "log\n{\"code\":8,\"msg\":\"m\"}", "{\"code\":7"] {
            assert!(printed_error(none.as_bytes()).is_none(), "{none:?}");
        }
    }

    #[test]
    fn an_error_object_is_no_empty_result() {
        let error = |document: &str| error_for_result(document.as_bytes());
        let found = error(r#"{"cniVersion":"1.0.0","code":7,"msg":"m","details":"d","ips":null}"#).unwrap();
        assert_eq!((found.code, found.to_string().as_str()), (Code(7), "m; d"));
        assert_eq!(error(r#"{"Code":-1,"Msg":"m"}"#).unwrap().code, Code::UNKNOWN);
        for key in ["interfaces", "ips", "routes", "dns", "ip4", "ip6"] {
            let result = format!(r#"{{"code":7,"msg":"m","{key}":[]}}"#);
            assert_eq!(error(&result), None, "{result}");
        }
        for result in [
            "{}",
            "null",
            r#"{"code":7}"#,
            r#"{"msg":"m"}"#,
            r#"{"code":0,"msg":"m"}"#,
            r#"{"code":"7","msg":"m"}"#,
        ] {
            assert_eq!(error(result), None, "{result}");
        }
    }

    #[test]
    fn an_end_is_told_as_go_tells_it() {
        for (raw, text) in [
            (0x100, "exit status 1"),
            (0x7f00, "exit status 127"),
            (9, "signal: killed"),
            (11 | 0x80, "signal: segmentation fault (core dumped)"),
            (34, "signal: 34"),
        ] {
            assert_eq!(exit_text(ExitStatus::from_raw(raw)), text);
        }
    }

    #[test]
    fn of_much_output_the_end_is_quoted() {
        let text = quote("x".repeat(MAX_QUOTE + 10).as_bytes());
        assert_eq!(text.len(), MAX_QUOTE + 2 + "…".len());
        assert!(quote(b" a\xff\n").starts_with("\"a\u{fffd}"));
    }

    #[test]
    fn the_current_folder_is_not_searched_by_accident() {
        let process = Process::search("/a::/b:".split(':'));
        assert_eq!(process.path(), "/a:/b");
        assert_eq!(Process::search([""; 1]).locate("x").unwrap_err().msg, "no paths provided");
    }
}
