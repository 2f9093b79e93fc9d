//! Which network, which attachment, and where their parts are found: the options that the verbs share, and the defaults
//! that they share with cnitool.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cni_spec::json::Object;
use cni_spec::{Command, NetworkConfig};
use libcni::{Attachment, Cni, LoadError, Process};
use serde_json::value::RawValue;

use super::failure::{Failure, Result, beneath, reason};

/// Where configurations are unless somebody says otherwise.
const CONF_DIR: &str = "/etc/cni/net.d";
/// Where plugins are. cnitool has no such default: it wants CNI_PATH.
const PLUGIN_DIR: &str = "/opt/cni/bin";
/// Where `ip netns` keeps its namespaces, which have names there.
const NETNS_DIR: &str = "/run/netns";

/// The network, and where its parts are.
#[derive(Debug, clap::Args)]
pub(crate) struct NetworkArgs {
    /// A network's name, or the path of its .conflist or .conf file
    pub(crate) network: String,

    /// Folder of network configurations [env: NETCONFPATH] [default: /etc/cni/net.d]
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,

    /// Folders of plugins, separated by ':' [env: CNI_PATH] [default: /opt/cni/bin]
    #[arg(long, value_name = "DIRS")]
    path: Option<String>,

    /// Folder in which attachments are remembered
    #[arg(long, value_name = "DIR", default_value = libcni::DEFAULT_CACHE_DIR)]
    pub(crate) cache_dir: PathBuf,

    /// The longest that a plugin may take: `30s`, `500ms`, `2m` [default: any time]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timeout: Option<Duration>,
}

/// The attachment.
#[derive(Debug, clap::Args)]
pub(crate) struct AttachmentArgs {
    /// The container's network namespace: a path, or a name of `ip netns`
    #[arg(long, value_name = "NETNS")]
    netns: Option<String>,

    /// The interface's name in the container [env: CNI_IFNAME] [default: eth0]
    #[arg(long, short, value_name = "NAME")]
    ifname: Option<String>,

    /// The container's identifier [default: made from the path of the namespace, as cnitool's]
    #[arg(long, value_name = "ID")]
    container_id: Option<String>,

    #[command(flatten)]
    wishes: WishArgs,
}

/// What plugins are told besides.
#[derive(Debug, clap::Args)]
pub(crate) struct WishArgs {
    /// An argument for the plugins; can be repeated [env: CNI_ARGS]
    #[arg(long = "arg", value_name = "K=V", value_parser = parse_pair)]
    args: Vec<(String, String)>,

    /// A value for a capability of the network, such as portMappings; can be repeated [env: CAP_ARGS]
    #[arg(long = "capability", value_name = "KEY=JSON", value_parser = parse_capability)]
    capabilities: Vec<(String, Json)>,
}

/// A JSON value, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Json(Box<RawValue>);

impl NetworkArgs {
    /// Reads the network's configuration.
    pub(crate) fn load(&self) -> Result<NetworkConfig> {
        load(&self.network, self.conf_dir.as_deref())
    }

    /// The runtime for it.
    pub(crate) fn cni(&self) -> Cni {
        let mut plugins = Process::search(plugin_path(self.path.as_deref()).split(':'));
        if let Some(time) = self.timeout {
            plugins = plugins.deadline(time);
        }
        Cni::new(plugins).cache_dir(&self.cache_dir).on_warning(warn)
    }
}

impl AttachmentArgs {
    /// What the runtime is told. DEL can do without the namespace.
    pub(crate) fn resolve(&self, needs_netns: bool) -> Result<Attachment> {
        let netns = match &self.netns {
            Some(netns) => absolute(&by_name(netns))?,
            None if needs_netns => {
                return Err(Failure::new("no network namespace was given")
                    .help("name the container's with --netns, for instance --netns /run/netns/blue"));
            }
            None => String::new(),
        };
        let container_id = match &self.container_id {
            Some(id) => id.clone(),
            None if netns.is_empty() => {
                return Err(Failure::new("neither a namespace nor a container was given").help(
                    "name one with --netns or --container-id; with --netns alone it is cnitool's container",
                ));
            }
            None => container_id(&netns),
        };
        Ok(self.wishes.resolve()?.attachment(container_id, netns, ifname(self.ifname.as_deref())))
    }
}

impl WishArgs {
    /// What was given, else what the environment has.
    pub(crate) fn resolve(&self) -> Result<Wishes> {
        let args = if self.args.is_empty() { args_of_environment()? } else { self.args.clone() };
        let capabilities = if self.capabilities.is_empty() {
            capabilities_of_environment()?
        } else {
            self.capabilities.iter().map(|(key, Json(value))| (key.clone(), value.clone())).collect()
        };
        Ok(Wishes { args, capabilities })
    }
}

/// What plugins are told besides which container it is.
#[derive(Debug)]
pub(crate) struct Wishes {
    args: Vec<(String, String)>,
    capabilities: BTreeMap<String, Box<RawValue>>,
}

impl Wishes {
    /// CNI_ARGS and CAP_ARGS.
    pub(crate) fn of_environment() -> Result<Wishes> {
        let capabilities = capabilities_of_environment()?;
        Ok(Wishes { args: args_of_environment()?, capabilities })
    }

    /// An attachment of this container, with these wishes.
    pub(crate) fn attachment(self, container_id: String, netns: String, ifname: String) -> Attachment {
        Attachment {
            container_id,
            netns,
            ifname,
            args: self.args,
            capability_args: self.capabilities,
            netns_override: netns_override(),
            ..Attachment::default()
        }
    }
}

/// Whether the network's version has this verb for plugins: they never hear of it otherwise.
pub(crate) fn plugins_are_asked(net: &NetworkConfig, verb: Command) -> bool {
    net.version().is_some_and(|version| verb.since().is_some_and(|since| version >= since.into()))
}

/// Reads the configuration of a network that is named, or whose file is.
pub(crate) fn load(network: &str, conf_dir: Option<&Path>) -> Result<NetworkConfig> {
    let path = Path::new(network);
    let is_file = network.contains('/') || (path.extension().is_some() && path.is_file());
    if is_file {
        return libcni::load_file(path).map_err(|e| Failure::new(e.to_string()));
    }
    let dir = conf_dir.map_or_else(default_conf_dir, Path::to_owned);
    libcni::load(&dir, network).map_err(|e| {
        let (details, help) = explain(&e);
        Failure::new(e.to_string()).details(details).help(help)
    })
}

/// The folders of plugins: those that were given, else those of CNI_PATH, else the usual one.
pub(crate) fn plugin_path(given: Option<&str>) -> String {
    given.map(str::to_owned).or_else(|| variable("CNI_PATH")).unwrap_or_else(|| PLUGIN_DIR.to_owned())
}

/// The folder that the environment names, else the usual one.
pub(crate) fn default_conf_dir() -> PathBuf {
    variable("NETCONFPATH").map_or_else(|| CONF_DIR.into(), PathBuf::from)
}

/// What was looked at, and what to do about it, where a network was not found.
pub(crate) fn explain(error: &LoadError) -> (String, String) {
    match error {
        LoadError::NotFound { dir, name } => {
            let there = networks_in(dir);
            let looked = there.iter().map(|(file, network)| format!("{file} has network {network:?}"));
            let mut details = vec!["looked at, in this order:".to_owned()];
            details.extend(looked);
            let help = match libcni::nearest(name, there.iter().map(|(_, network)| network.as_str())) {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => "NETCONFPATH names another folder".into(),
            };
            (details.join("\n"), help)
        }
        LoadError::NoConfigs { dir } => {
            let there = if dir.is_dir() { "has no .conflist, .conf or .json file" } else { "does not exist" };
            (format!("{} {there}", dir.display()), "NETCONFPATH names another folder".into())
        }
        LoadError::Parse { .. } | LoadError::NoPlugins { .. } => (
            "files are read in the order of their names until the network is found".into(),
            "repair the file, or give it a name that does not end in .conflist, .conf or .json".into(),
        ),
        _ => (String::new(), String::new()),
    }
}

/// The configurations in a folder in the order in which they are looked at, each with the network in it.
fn networks_in(dir: &Path) -> Vec<(String, String)> {
    let files = |extensions| libcni::config_files(dir, extensions).unwrap_or_default();
    let lists = files(&["conflist"]);
    let name = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some((file, libcni::load_file(path).ok()?.name))
    };
    lists.iter().chain(&files(&["conf", "json"])).filter_map(name).collect()
}

/// The interface's name: what was given, else CNI_IFNAME, else eth0.
pub(crate) fn ifname(given: Option<&str>) -> String {
    let given = given.filter(|name| !name.is_empty()).map(str::to_owned);
    given.or_else(|| variable("CNI_IFNAME")).unwrap_or_else(|| "eth0".into())
}

/// `CNI_ARGS`: pairs separated by `;`.
fn args_of_environment() -> Result<Vec<(String, String)>> {
    let Some(text) = variable("CNI_ARGS") else { return Ok(Vec::new()) };
    let pairs = text.split(';').map(|text| {
        pair(text).ok_or_else(|| {
            Failure::new(format!("invalid CNI_ARGS pair {text:?}"))
                .help("CNI_ARGS is a list of K=V, separated by ';'")
        })
    });
    pairs.collect()
}

/// `K=V` with exactly one `=` and something on both sides: the reference's cnitool takes nothing else, nor do plugins.
fn pair(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    let sound = !key.is_empty() && !value.is_empty() && !value.contains('=');
    sound.then(|| (key.to_owned(), value.to_owned()))
}

/// `CAP_ARGS`: a JSON object with a member for each capability.
fn capabilities_of_environment() -> Result<BTreeMap<String, Box<RawValue>>> {
    let Some(text) = variable("CAP_ARGS").filter(|text| text.trim() != "null") else {
        return Ok(BTreeMap::new());
    };
    let object = Object::parse(text.as_bytes()).map_err(|e| {
        Failure::new(format!("CAP_ARGS is not a JSON object: {e}"))
            .help(r#"for instance CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'"#)
    })?;
    Ok(object.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// `CNI_NETNS_OVERRIDE`, which plugins inherit from the reference's cnitool like everything else.
fn netns_override() -> bool {
    variable("CNI_NETNS_OVERRIDE").is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
}

/// A path from the root, without `.`, `..` and doubled slashes. It need not exist: symbolic links are not followed.
pub(crate) fn absolute(path: &str) -> Result<String> {
    let here = || {
        let here = std::env::current_dir();
        here.map_err(|e| Failure::new(format!("finding out the current folder: {}", reason(&e))))
    };
    let whole = if path.starts_with('/') { PathBuf::from(path) } else { here()?.join(path) };
    let mut clean = PathBuf::from("/");
    for part in whole.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let refuse =
        |path: PathBuf| Failure::new(format!("{} is not UTF-8, which CNI_NETNS has to be", path.display()));
    clean.into_os_string().into_string().map_err(|path| refuse(path.into()))
}

/// The container's identifier for a namespace: the same path gives the same one, as in the reference's cnitool.
pub(crate) fn container_id(netns: &str) -> String {
    let digest = hmac_sha512::Hash::hash(netns);
    let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("cnitool-{hex}")
}

/// Tells a person what went wrong without making anything fail.
pub(crate) fn warn(text: &str) {
    // There is nobody left to tell if this fails.
    let _ = io::Write::write_all(&mut io::stderr(), format!("warning: {}\n", beneath(text, 9)).as_bytes());
}

/// A variable of the environment; one that is empty is not there.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `blue` is what `ip netns` calls `/run/netns/blue`.
fn by_name(netns: &str) -> String {
    let named = Path::new(NETNS_DIR).join(netns);
    if !netns.contains('/') && !Path::new(netns).exists() && named.exists() {
        named.to_string_lossy().into_owned()
    } else {
        netns.to_owned()
    }
}

fn parse_pair(text: &str) -> std::result::Result<(String, String), String> {
    // A ';' would be the end of the pair in CNI_ARGS.
    let pair = pair(text).filter(|_| !text.contains(';'));
    pair.ok_or_else(|| "it has to be K=V, with one '=' and without ';'".into())
}

fn parse_capability(text: &str) -> std::result::Result<(String, Json), String> {
    let (key, value) = text.split_once('=').ok_or("it has to be KEY=JSON")?;
    match serde_json::from_str(value) {
        Ok(value) => Ok((key.into(), Json(value))),
        Err(e) => Err(format!(
            "the value of {key} is not JSON: {e}; a string needs quotes of its own: {key}='\"text\"'"
        )),
    }
}

/// `30s`, `500ms`, `2m`; a number alone is seconds.
fn parse_time(text: &str) -> std::result::Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &text[..text.len() - unit.len()];
    let seconds = match unit {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        _ => return Err("it has to be a number and ms, s or m".into()),
    };
    let number: f64 = number.parse().map_err(|_| "it has to start with a number")?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|_| "that is too long")?;
    if time.is_zero() { Err("it has to be more than nothing".into()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_the_references() {
        // printf /var/run/netns/testing | sha512sum; the reference's own documentation has this one.
        assert_eq!(container_id("/var/run/netns/testing"), "cnitool-77383ca0a0715733ca6f");
    }

    #[test]
    fn paths_are_cleaned_as_filepath_abs_does() {
        for (given, expected) in [
            ("/run//netns/./blue/", "/run/netns/blue"),
            ("/run/netns/../netns/blue", "/run/netns/blue"),
            ("/../..", "/"),
        ] {
            assert_eq!(absolute(given).unwrap(), expected);
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("x/../y").unwrap(), here.join("y").to_str().unwrap());
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [("30", 30_000), ("1.5s", 1_500), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1h", "0", "1e999", "99999999999999999999999999m"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn capabilities_are_json() {
        assert_eq!(parse_capability("ips=[\"10.0.0.1/8\"]").unwrap().1.0.get(), "[\"10.0.0.1/8\"]");
        assert!(parse_capability("mac=02:00:00:00:00:01").unwrap_err().contains("quotes"));
        assert!(parse_capability("mac").is_err());
    }

    #[test]
    fn arguments_are_pairs() {
        assert_eq!(parse_pair("IP=10.0.0.1"), Ok(("IP".into(), "10.0.0.1".into())));
        for text in ["IP", "=1", "A=", "A=b=c", "A==", "A=1;B=2", "A=1;", ""] {
            assert!(parse_pair(text).is_err(), "{text:?}");
        }
    }
}
