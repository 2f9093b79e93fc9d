//! `ferrocni install`: the binary and its names in a folder, all of them or none.
//!
//! What a folder goes through is in [`transaction`]; here is what a person sees of it.

mod transaction;
mod verify;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni_plugins::PLUGINS;

use self::transaction::{Folder, Leftover};
use super::failure::{Failure, Result, reason};
use super::output::{Output, Table, size};

/// Install this binary into a folder, with a link for every plugin and for cnitool
///
/// Everything is written under temporary names in the folder, synced to disk and tried out, and then renamed over what
/// is there; running plugins are not disturbed. If a step fails, the folder is left as it was. Files of other
/// names are not touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ferrocni install /opt/cni/bin\n  ferrocni install /opt/cni/bin --dry-run"
)]
pub(crate) struct Install {
    /// The folder; it has to be there
    dir: PathBuf,

    /// What the names of the plugins are
    #[arg(long, value_enum, default_value_t = Link::Hard)]
    link: Link,

    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
}

/// How a name comes to the binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Link {
    /// Hard links to one file
    Hard,
    /// Symbolic links to `ferrocni` beside them
    Symbolic,
    /// A copy for each name
    Copy,
}

/// This program, even if its file has been replaced or deleted since it was started.
const THIS_BINARY: &str = "/proc/self/exe";

/// The file that the links are made to.
const BINARY: &str = "ferrocni";

/// The names that are installed, the file itself first: symbolic links are never without it.
fn names() -> Vec<&'static str> {
    [BINARY, "cnitool"].into_iter().chain(PLUGINS.iter().map(|plugin| plugin.name)).collect()
}

impl Install {
    pub(crate) fn run(&self, out: &mut Output) -> Result<()> {
        let names = names();
        let folder = Folder::open(&self.dir).map_err(|e| cannot_use(&self.dir, &e))?;
        let there = look_at(&self.dir, &names)?;
        if self.dry_run {
            let leftover = folder.leftover().map_err(|e| failed("looking into", &self.dir, &e))?;
            return self.report("would install", &there, leftover, out);
        }
        folder.lock().map_err(|e| cannot_lock(&self.dir, &e))?;
        let leftover = folder.recover().map_err(|e| failed("cleaning up", &self.dir, &e))?;
        // What is there may only now be what it was before the install that was interrupted.
        let there = look_at(&self.dir, &names)?;
        let staged = folder
            .stage(Path::new(THIS_BINARY), &names, self.link)
            .map_err(|e| failed("writing to", &self.dir, &e))?;
        for name in &names {
            verify::answers(&staged.path(name), name).map_err(|why| {
                Failure::new(format!("the new {name} does not work in {}: {why}", self.dir.display()))
                    .details("the folder is as it was")
                    .help(hint_to_run(&why))
            })?;
        }
        staged.commit(&mut |from, to| fs::rename(from, to)).map_err(|e| {
            Failure::new(format!("replacing {} in {}: {}", e.name, self.dir.display(), reason(&e.error)))
                .details(e.outcome())
                .help(hint(&self.dir, &e.error))
        })?;
        self.report("installed", &there, leftover, out)
    }

    fn report(
        &self,
        verb: &str,
        there: &[(&'static str, Now)],
        leftover: Leftover,
        out: &mut Output,
    ) -> Result<()> {
        let kind = match self.link {
            Link::Hard => "hard links to one file",
            Link::Symbolic => "one file and symbolic links to it",
            Link::Copy => "copies",
        };
        let binary = fs::metadata(THIS_BINARY).map(|m| m.len());
        let binary = binary.map_err(|e| Failure::new(format!("looking at this binary: {}", reason(&e))))?;
        let version = env!("CARGO_PKG_VERSION");
        let dir = self.dir.display();
        out.line(format!("{verb} ferrocni {version} ({}) in {dir}, as {kind}", size(binary)))?;
        let mut table = Table::new(["NAME", "BEFORE"]);
        for (name, now) in there {
            table.row([(*name).to_owned(), now.describe()]);
        }
        for line in table.lines() {
            out.line(line.indented(2))?;
        }
        match leftover {
            Leftover::None => Ok(()),
            Leftover::Temporary => out.line("  and the temporary files of an interrupted install, removed"),
            Leftover::HalfInstalled => {
                out.line("  and an interrupted install, which had replaced some of the files: undone first")
            }
        }
    }
}

/// What has a name now.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Now {
    Nothing,
    File { bytes: u64 },
    Symlink { target: PathBuf },
}

impl Now {
    fn describe(&self) -> String {
        match self {
            Now::Nothing => "was not there".into(),
            Now::File { bytes } => format!("replaces a file of {}", size(*bytes)),
            Now::Symlink { target } => format!("replaces a symbolic link to {}", target.display()),
        }
    }
}

/// What is in the folder under our names.
///
/// # Errors
/// Something that is neither a file nor a symbolic link is in the way.
fn look_at(dir: &Path, names: &[&'static str]) -> Result<Vec<(&'static str, Now)>> {
    let mut found = Vec::new();
    for name in names {
        let path = dir.join(name);
        let now = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Now::Nothing,
            Err(e) => return Err(failed("looking at", &path, &e)),
            Ok(m) if m.is_file() => Now::File { bytes: m.len() },
            Ok(m) if m.is_symlink() => {
                Now::Symlink { target: fs::read_link(&path).map_err(|e| failed("looking at", &path, &e))? }
            }
            Ok(m) => {
                let what = if m.is_dir() { "a folder" } else { "not a file" };
                return Err(Failure::new(format!("{} is {what}, so it cannot be replaced", path.display()))
                    .help("move it out of the way; nothing was changed"));
            }
        };
        found.push((*name, now));
    }
    Ok(found)
}

fn failed(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{doing} {}: {}", path.display(), reason(error)))
        .details("nothing was replaced")
        .help(hint(path, error))
}

fn cannot_use(dir: &Path, error: &io::Error) -> Failure {
    let shown = dir.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(format!("{shown} does not exist")).help(format!("make it first: mkdir -p {shown}"))
        }
        io::ErrorKind::NotADirectory => Failure::new(format!("{shown} is not a folder"))
            .help("name the folder that the runtime searches for plugins, usually /opt/cni/bin"),
        _ => failed("opening", dir, error),
    }
}

fn cannot_lock(dir: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::WouldBlock => Failure::new(format!("another install is at work in {}", dir.display()))
            .help("wait for it to finish"),
        _ => failed("locking", dir, error),
    }
}

fn hint(dir: &Path, error: &io::Error) -> String {
    let dir = dir.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!("run it as a user who may write to {dir}"),
        io::ErrorKind::ReadOnlyFilesystem => {
            format!("{dir} is on a read-only file system; choose another folder")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("make room for it where {dir} is")
        }
        io::ErrorKind::Unsupported => "try --link symbolic".into(),
        _ => String::new(),
    }
}

fn hint_to_run(why: &str) -> &'static str {
    if why.contains("permission denied") { "the folder may be mounted noexec" } else { "" }
}
