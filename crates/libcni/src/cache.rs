//! What is remembered of an attachment between ADD and the CHECKs and the DEL after it: one file each, in the format
//! of the reference, read and written both ways.
//!
//! A file appears whole or not at all, and survives a loss of power that way; nothing else is promised. There is no
//! lock: a runtime does not run two verbs for one attachment at a time (spec §2).

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni_spec::{AttachmentId, NetworkName, Version, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Added;
use crate::error::os_text;
use crate::file;

/// The `kind` of a file in today's format; without it, the file is the bare result of an older libcni.
const KIND: &str = "cniCacheV1";
/// The longest file name in bytes (`NAME_MAX`, `linux/limits.h`).
const MAX_FILE_NAME: usize = 255;
/// What the names of files begin with that are still being written. No network's name begins like that.
const UNFINISHED: &str = ".unfinished-";
/// After this time an unfinished file belongs to nobody: writing one takes milliseconds.
const UNFINISHED_FOR: Duration = Duration::from_secs(600);

/// What is known of an attachment since its ADD.
#[derive(Debug, Clone)]
#[doc(alias = "NetworkAttachment")]
pub struct CachedAttachment {
    /// The network's name.
    pub network: NetworkName,
    /// The container and its interface.
    pub id: AttachmentId,
    /// The path of the container's namespace at the time; empty where it was not kept. It may be somebody else's by
    /// now.
    pub netns: String,
    /// Which namespace that was, to be compared and nothing else; empty where it was not kept, as in entries written
    /// by the reference.
    pub netns_id: String,
    /// The pairs of `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// The arguments of capabilities.
    pub capability_args: BTreeMap<String, Box<RawValue>>,
    /// The configuration at the time, as [`NetworkConfig::parse`](cni_spec::NetworkConfig::parse) reads it; empty
    /// where it was not kept.
    #[doc(alias = "GetNetworkListCachedConfig")]
    pub config: Vec<u8>,
    /// The result document of the ADD, if it had one.
    #[doc(alias = "GetNetworkListCachedResult")]
    pub result: Option<Box<RawValue>>,
}

impl CachedAttachment {
    /// The result of the ADD, if it had one.
    ///
    /// # Errors
    /// A document that is no result.
    pub fn added(&self) -> Result<Option<Added>, cni_spec::Error> {
        let Some(document) = &self.result else { return Ok(None) };
        Added::decode(document.get().as_bytes(), Version::DEFAULT).map(Some)
    }
}

/// The file of one attachment: its name is made of theirs, none of which can lead out of the folder.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) network: NetworkName,
    pub(crate) id: AttachmentId,
    file: String,
}

impl Key {
    /// # Errors
    /// Names that are too long for a file name together.
    pub(crate) fn new(network: NetworkName, id: AttachmentId) -> Result<Self, String> {
        let file = format!("{network}-{}-{}", id.container_id, id.ifname);
        if file.len() > MAX_FILE_NAME {
            return Err(format!("the names of network, container and interface make {} bytes", file.len())
                + &format!(", a file name has at most {MAX_FILE_NAME}"));
        }
        Ok(Key { network, id, file })
    }
}

/// Why a file could not be used.
#[derive(Debug)]
pub(crate) struct CacheError {
    pub(crate) path: PathBuf,
    pub(crate) why: Why,
}

#[derive(Debug)]
pub(crate) enum Why {
    /// It holds nothing that could be understood: it was torn by a crash.
    Broken(String),
    /// The names of another attachment make the same file name.
    Foreign(String),
    /// It cannot be read or written.
    Io(io::Error),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.why {
            Why::Broken(why) => write!(f, "broken: {why}"),
            Why::Foreign(owner) => write!(f, "it belongs to {owner}"),
            Why::Io(error) => f.write_str(&os_text(error)),
        }
    }
}

/// A folder of files.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    results: PathBuf,
}

impl Cache {
    /// The files are in a folder below `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        Cache { results: dir.join("results") }
    }

    /// What is known of the attachment; nothing where there was no ADD.
    pub(crate) fn read(&self, key: &Key) -> Result<Option<CachedAttachment>, CacheError> {
        let path = self.results.join(&key.file);
        let content = match file::read(&path) {
            Ok(content) => content,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(CacheError { path, why: Why::Io(e) }),
        };
        decode(&content, key).map(Some).map_err(|why| CacheError { path, why })
    }

    /// Puts the whole file in the place of an earlier one.
    pub(crate) fn write(&self, attachment: &CachedAttachment) -> Result<(), CacheError> {
        let failed = |path: &Path, error| CacheError { path: path.into(), why: Why::Io(error) };
        let key = Key::new(attachment.network.clone(), attachment.id.clone())
            .map_err(|e| failed(&self.results, io::Error::other(e)))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.results)
            .map_err(|e| failed(&self.results, e))?;
        let path = self.results.join(&key.file);
        let content = encode(attachment).into_bytes();
        // What could not be read again would make every CHECK fail.
        let unfinished = file::check_size(&content)
            .and_then(|()| self.write_unfinished(&content))
            .map_err(|e| failed(&path, e))?;
        fs::rename(&unfinished, &path).map_err(|e| {
            let _ = fs::remove_file(&unfinished);
            failed(&path, e)
        })
    }

    /// Forgets the attachment; one that is not known is forgotten already.
    pub(crate) fn remove(&self, key: &Key) -> Result<(), CacheError> {
        let path = self.results.join(&key.file);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(CacheError { path, why: Why::Io(e) }),
            _ => Ok(()),
        }
    }

    /// Every attachment that is known, by file name, and the files that are none. Bare results of an older libcni
    /// are left out: they do not say whose they are.
    ///
    /// This reads every file; no verb but GC needs it. What writers left unfinished is cleaned up on the way.
    pub(crate) fn list(&self) -> Result<(Vec<CachedAttachment>, Vec<CacheError>), CacheError> {
        let failed = |error| CacheError { path: self.results.clone(), why: Why::Io(error) };
        let entries = match fs::read_dir(&self.results) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(e) => return Err(failed(e)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // A name that is no text is not one of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with(UNFINISHED) {
                remove_if_old(&entry.path());
            } else {
                files.push(name);
            }
        }
        files.sort_unstable();
        let (mut known, mut broken) = (Vec::new(), Vec::new());
        for name in files {
            let path = self.results.join(&name);
            match file::read(&path) {
                Ok(content) => match decode_listed(&content, &name) {
                    Ok(attachment) => known.extend(attachment),
                    Err(why) => broken.push(CacheError { path, why }),
                },
                Err(e) if e.kind() == io::ErrorKind::NotFound => {} // a DEL in the meantime
                Err(e) => broken.push(CacheError { path, why: Why::Io(e) }),
            }
        }
        Ok((known, broken))
    }

    /// Writes a new file of a name that nobody else uses, down to the disk: after a loss of power the rename must not
    /// be there without the content (cni#1149).
    fn write_unfinished(&self, content: &[u8]) -> io::Result<PathBuf> {
        let (path, mut file) = loop {
            let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            let path = self.results.join(format!("{UNFINISHED}{}-{nanoseconds}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break (path, file),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {} // another thread, at the same moment
                Err(e) => return Err(e),
            }
        };
        file.write_all(content).and_then(|()| file.sync_all()).inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })?;
        Ok(path)
    }
}

/// The file's content, with its members in the reference's order.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    capability_args: BTreeMap<String, Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    /// Our own; the reference ignores it.
    #[serde(skip_serializing_if = "String::is_empty")]
    netns_id: String,
}

fn encode(attachment: &CachedAttachment) -> String {
    let CachedAttachment { network, id, netns, netns_id, args, capability_args, config, result } =
        attachment.clone();
    json::to_compact(&Document {
        kind: KIND.to_owned(),
        container_id: id.container_id.to_string(),
        config: BASE64.encode(config),
        if_name: id.ifname.to_string(),
        network_name: network.to_string(),
        netns,
        cni_args: args,
        capability_args,
        result,
        netns_id,
    })
}

/// Reads the file that was looked for by its name. The names in it count: those of network `a-b` and container `c`
/// make the same file name as those of `a` and `b-c`. Names that do not make this file name are nobody's.
fn decode(content: &[u8], key: &Key) -> Result<CachedAttachment, Why> {
    let document = parse(content)?;
    if document.kind != KIND {
        return decode_bare(content, key);
    }
    let owner = owner(&document, &key.file)?;
    if (&owner.network, &owner.id) != (&key.network, &key.id) {
        let (network, id) = (owner.network.as_str(), owner.id);
        let (container, ifname) = (id.container_id.as_str(), id.ifname.as_str());
        let owner = format!("network {network:?}, container {container:?}, interface {ifname:?}");
        return Err(Why::Foreign(owner));
    }
    fill(document, owner)
}

/// Reads a file that was found by listing; nothing where it is the bare result of an older libcni.
fn decode_listed(content: &[u8], name: &str) -> Result<Option<CachedAttachment>, Why> {
    let document = parse(content)?;
    if document.kind != KIND {
        return Ok(None);
    }
    let owner = owner(&document, name)?;
    fill(document, owner).map(Some)
}

/// Whose attachment is in the file of this name.
fn owner(document: &Document, file: &str) -> Result<Key, Why> {
    let Document { network_name, container_id, if_name, .. } = document;
    let network = NetworkName::parse(network_name).map_err(|e| Why::Broken(e.to_string()))?;
    let id = AttachmentId::parse(container_id, if_name).map_err(|e| Why::Broken(e.to_string()))?;
    let key = Key::new(network, id).map_err(Why::Broken)?;
    if key.file != file {
        return Err(Why::Broken(format!("the names in it belong to {:?}", key.file)));
    }
    Ok(key)
}

fn parse(content: &[u8]) -> Result<Document, Why> {
    if content.is_empty() {
        return Err(Why::Broken("it is empty".into()));
    }
    json::decode(content).map_err(|e| Why::Broken(e.to_string()))
}

fn decode_bare(content: &[u8], key: &Key) -> Result<CachedAttachment, Why> {
    let added = Added::decode(content, Version::DEFAULT).map_err(|e| Why::Broken(e.to_string()))?;
    Ok(CachedAttachment {
        network: key.network.clone(),
        id: key.id.clone(),
        netns: String::new(),
        netns_id: String::new(),
        args: Vec::new(),
        capability_args: BTreeMap::new(),
        config: Vec::new(),
        result: Some(added.document),
    })
}

fn fill(document: Document, Key { network, id, .. }: Key) -> Result<CachedAttachment, Why> {
    let Document { config, netns, netns_id, cni_args: args, capability_args, result, .. } = document;
    let config = BASE64.decode(config).map_err(|e| Why::Broken(format!("config: {e}")))?;
    Ok(CachedAttachment { network, id, netns, netns_id, args, capability_args, config, result })
}

fn remove_if_old(path: &Path) {
    let age = fs::metadata(path).and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
    if age.is_some_and(|age| age > UNFINISHED_FOR) {
        // If it cannot be removed now, it can the next time.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(network: &str, container: &str) -> Key {
        Key::new(NetworkName::parse(network).unwrap(), AttachmentId::parse(container, "eth0").unwrap())
            .unwrap()
    }

    fn attachment(network: &str, container: &str) -> CachedAttachment {
        let Key { network, id, .. } = key(network, container);
        CachedAttachment {
            network,
            id,
            netns: "/run/netns/x".into(),
            netns_id: "4:5".into(),
            args: vec![("K".into(), "<V>".into())],
            capability_args: BTreeMap::from([(
                "mac".into(),
                RawValue::from_string("\"00:01\"".into()).unwrap(),
            )]),
            config: b"{\"name\":\"n\"}".to_vec(),
            result: Some(RawValue::from_string(r#"{"cniVersion":"1.0.0","x":1.0}"#.into()).unwrap()),
        }
    }

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(&dir.path().join("cni"));
        (dir, cache)
    }

    fn put(cache: &Cache, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(&cache.results).unwrap();
        fs::write(cache.results.join(name), content).unwrap();
    }

    #[test]
    fn the_format_is_the_references() {
        let (_dir, cache) = cache();
        cache.write(&attachment("n", "c")).unwrap();
        let path = cache.results.join("n-c-eth0");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            r#"{"kind":"cniCacheV1","containerId":"c","config":"eyJuYW1lIjoibiJ9","ifName":"eth0","networkName":"n","netns":"/run/netns/x","cniArgs":[["K","\u003cV\u003e"]],"capabilityArgs":{"mac":"00:01"},"result":{"cniVersion":"1.0.0","x":1.0},"netnsId":"4:5"}"#
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&cache.results)), (0o600, 0o700));
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, cache) = cache();
        assert!(cache.read(&key("n", "c")).unwrap().is_none());
        cache.write(&attachment("n", "c")).unwrap();
        cache.write(&attachment("n", "c")).unwrap();
        let read = cache.read(&key("n", "c")).unwrap().unwrap();
        assert_eq!(encode(&read), encode(&attachment("n", "c")));
        assert_eq!(read.added().unwrap().unwrap().version, Version::V1_0_0);
        cache.remove(&key("n", "c")).unwrap();
        cache.remove(&key("n", "c")).unwrap();
        assert!(cache.read(&key("n", "c")).unwrap().is_none());
        assert_eq!(fs::read_dir(&cache.results).unwrap().count(), 0, "nothing unfinished is left");
    }

    #[test]
    fn bare_results_of_an_older_libcni_are_read_but_not_listed() {
        let (_dir, cache) = cache();
        put(&cache, "n-c-eth0", r#"{"ip4":{"ip":"10.0.0.2/24"},"dns":{}}"#);
        let read = cache.read(&key("n", "c")).unwrap().unwrap();
        assert_eq!(read.added().unwrap().unwrap().version, Version::V0_1_0);
        assert!(read.config.is_empty());
        let (known, broken) = cache.list().unwrap();
        assert!(known.is_empty() && broken.is_empty());
    }

    #[test]
    fn what_a_crash_left_is_said_to_be_broken() {
        let (_dir, cache) = cache();
        let whole = encode(&attachment("n", "c"));
        for content in ["", "\0\0\0\0", "[]", "{\"kind\":7}", &whole[..whole.len() / 2]] {
            put(&cache, "n-c-eth0", content);
            let error = cache.read(&key("n", "c")).unwrap_err();
            assert!(matches!(error.why, Why::Broken(_)), "{content:?}: {error}");
            assert_eq!(cache.list().unwrap().1.len(), 1, "{content:?}");
        }
        // Names that do not make this file name are another attachment's neither.
        for names in [("containerId", "x"), ("\"c\"", "\"d\""), ("\"c\"", "\"../c\""), ("\"n\"", "\"\"")] {
            put(&cache, "n-c-eth0", whole.replace(names.0, names.1));
            let error = cache.read(&key("n", "c")).unwrap_err();
            assert!(matches!(error.why, Why::Broken(_)), "{names:?}: {error}");
        }
        put(&cache, "n-c-eth0", whole.replace("eyJu", "!"));
        assert!(matches!(cache.read(&key("n", "c")).unwrap_err().why, Why::Broken(_)));
    }

    #[test]
    fn a_file_of_the_same_name_may_be_anothers() {
        let (_dir, cache) = cache();
        cache.write(&attachment("a", "b-c")).unwrap();
        let error = cache.read(&key("a-b", "c")).unwrap_err();
        assert!(matches!(error.why, Why::Foreign(_)));
        assert!(
            error
                .to_string()
                .ends_with("a-b-c-eth0: it belongs to network \"a\", container \"b-c\", interface \"eth0\"")
        );
        let (known, _) = cache.list().unwrap();
        assert_eq!((known[0].network.as_str(), known[0].id.container_id.as_str()), ("a", "b-c"));
    }

    #[test]
    fn listing_is_by_name_and_trusts_no_name() {
        let (_dir, cache) = cache();
        assert!(cache.list().unwrap().0.is_empty());
        for container in ["c2", "c1"] {
            cache.write(&attachment("n", container)).unwrap();
        }
        put(&cache, "copy", encode(&attachment("n", "c1")));
        put(&cache, "bad", encode(&attachment("n", "c1")).replace("\"c1\"", "\"../c1\""));
        fs::create_dir(cache.results.join("folder")).unwrap();
        let (known, broken) = cache.list().unwrap();
        let containers: Vec<_> = known.iter().map(|a| a.id.container_id.as_str()).collect();
        assert_eq!(containers, ["c1", "c2"]);
        assert_eq!(broken.len(), 3);
    }

    #[test]
    fn unfinished_files_are_no_entries_and_do_not_stay() {
        let (_dir, cache) = cache();
        put(&cache, ".unfinished-1-1", encode(&attachment("n", "c")));
        put(&cache, ".unfinished-1-2", "");
        let old = SystemTime::now() - UNFINISHED_FOR - Duration::from_secs(1);
        let file = OpenOptions::new().write(true).open(cache.results.join(".unfinished-1-2")).unwrap();
        file.set_modified(old).unwrap();
        let (known, broken) = cache.list().unwrap();
        assert!(known.is_empty() && broken.is_empty());
        assert!(cache.results.join(".unfinished-1-1").exists(), "somebody may be writing it");
        assert!(!cache.results.join(".unfinished-1-2").exists());
    }

    #[test]
    fn a_failure_leaves_nothing_and_names_the_file() {
        let (dir, _) = cache();
        fs::write(dir.path().join("file"), "").unwrap();
        let cache = Cache::new(&dir.path().join("file"));
        let error = cache.write(&attachment("n", "c")).unwrap_err();
        assert!(error.to_string().ends_with("file/results: not a directory"), "{error}");
        let (_dir, cache) = self::cache();
        put(&cache, "x", "");
        fs::create_dir(cache.results.join("n-c-eth0")).unwrap();
        assert!(matches!(cache.write(&attachment("n", "c")).unwrap_err().why, Why::Io(_)));
        assert_eq!(fs::read_dir(&cache.results).unwrap().count(), 2, "the unfinished file is gone");
    }

    #[test]
    fn what_could_not_be_read_is_not_written() {
        let (_dir, cache) = cache();
        // Three bytes are four in base64.
        let config = vec![b' '; file::MAX_FILE / 4 * 3];
        let error = cache.write(&CachedAttachment { config, ..attachment("n", "c") }).unwrap_err();
        assert!(error.to_string().ends_with("n-c-eth0: it has more than 67108864 bytes"), "{error}");
        assert_eq!(fs::read_dir(&cache.results).unwrap().count(), 0);
    }

    #[test]
    fn names_that_do_not_fit_a_file_name_are_refused() {
        let id = AttachmentId::parse(&"c".repeat(4096), "eth0").unwrap();
        let error = Key::new(NetworkName::parse("n").unwrap(), id).unwrap_err();
        assert!(error.contains("4103 bytes, a file name has at most 255"), "{error}");
    }
}
