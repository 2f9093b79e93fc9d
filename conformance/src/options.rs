//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser, ValueExt};

/// What `--help` prints.
pub(crate) const HELP: &str = "\
Plays the same black-box cases against any directory of CNI plugins.

Usage: conformance DIR [OPTION…]

  DIR                 the plugins, for instance /opt/cni/bin
  --reference         DIR holds the Go plugins: where they are known to differ, that is what is expected
  --against DIR       play the cases against these plugins too, as the reference, and fail where the two answer
                      differently and no difference is written down
  --delegates DIR     take the IPAM plugins from this directory, and play only what delegates to them
  --delegates-reference
                      those are the Go plugins
  --filter TEXT       only the cases whose `group: name` contains TEXT
  --list              name the cases and play none
  --format FORMAT     text (the default), json or junit
  --output FILE       write the report to FILE instead of standard output
  --differences FILE  check the cases against this docs/differences.md instead of the one built in
  --help              this text

Plugins are played in namespaces of their own: no root is needed, and the machine's network is not touched.
Exit status: 0 if every case passed, 1 if one failed, 2 if nothing could be played.
";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) against: Option<PathBuf>,
    pub(crate) reference: bool,
    pub(crate) delegates: Option<PathBuf>,
    pub(crate) delegates_reference: bool,
    pub(crate) filter: String,
    pub(crate) list: bool,
    pub(crate) format: Format,
    pub(crate) output: Option<PathBuf>,
    pub(crate) differences: Option<PathBuf>,
    pub(crate) help: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Json,
    Junit,
}

impl Options {
    /// Reads the arguments, without the program's name.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
        let options = Options::read(args).map_err(|err| err.to_string())?;
        if options.dir.is_none() && !options.list && !options.help {
            return Err("which directory? say for instance `conformance /opt/cni/bin`".into());
        }
        if options.reference && options.against.is_some() {
            return Err("--against plays the reference already: leave --reference out".into());
        }
        if options.delegates_reference && options.delegates.is_none() {
            return Err("--delegates-reference needs --delegates".into());
        }
        if options.delegates.is_some() && options.against.is_some() {
            return Err("--delegates mixes two directories, --against compares two: take one of them".into());
        }
        Ok(options)
    }

    fn read(args: impl IntoIterator<Item = OsString>) -> Result<Options, lexopt::Error> {
        let mut parser = Parser::from_args(args);
        let mut options = Options::default();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("reference") => options.reference = true,
                Arg::Long("against") => options.against = Some(parser.value()?.into()),
                Arg::Long("delegates") => options.delegates = Some(parser.value()?.into()),
                Arg::Long("delegates-reference") => options.delegates_reference = true,
                Arg::Long("filter") => options.filter = parser.value()?.string()?,
                Arg::Long("list") => options.list = true,
                Arg::Long("format") => options.format = parser.value()?.parse_with(Format::parse)?,
                Arg::Long("output") => options.output = Some(parser.value()?.into()),
                Arg::Long("differences") => options.differences = Some(parser.value()?.into()),
                Arg::Long("help") | Arg::Short('h') => options.help = true,
                Arg::Value(dir) if options.dir.is_none() => options.dir = Some(dir.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(options)
    }
}

impl Format {
    fn parse(text: &str) -> Result<Format, &'static str> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            "junit" => Ok(Format::Junit),
            _ => Err("it is text, json or junit"),
        }
    }
}

/// The whole path of a directory that must be there.
pub(crate) fn directory(path: &Path) -> Result<String, String> {
    let whole = path.canonicalize().map_err(|err| format!("{}: {err}", path.display()))?;
    if !whole.is_dir() {
        return Err(format!("{}: not a directory", path.display()));
    }
    whole.into_os_string().into_string().map_err(|_| format!("{}: not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, String> {
        Options::parse(args.iter().map(OsString::from))
    }

    #[test]
    fn arguments_are_read() {
        let options = parse(&["--format=junit", "/bin", "--filter", "x", "--reference"]).unwrap();
        assert_eq!(options.format, Format::Junit);
        assert_eq!(
            (options.dir, options.filter.as_str(), options.reference),
            (Some("/bin".into()), "x", true)
        );
        assert!(parse(&["--list"]).unwrap().list);
    }

    #[test]
    fn bad_usage_is_told() {
        assert!(parse(&[]).unwrap_err().contains("which directory"));
        assert!(parse(&["a", "b"]).unwrap_err().contains("\"b\""));
        assert!(parse(&["a", "--format", "xml"]).unwrap_err().contains("text, json or junit"));
        assert!(parse(&["a", "--reference", "--against", "b"]).is_err());
        assert!(parse(&["a", "--delegates-reference"]).is_err());
        assert!(parse(&["a", "--delegates", "b", "--against", "c"]).is_err());
        assert!(directory(Path::new("/etc/passwd")).unwrap_err().contains("not a directory"));
    }
}
