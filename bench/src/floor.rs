//! What the program `floor` does: each job with the fewest requests that the kernel can do it in.
//!
//! Nothing is asked that can be known beforehand. Names, indexes and addresses follow from the number at the end of the
//! container's identifier.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;
use crate::nft::Nft;
use crate::rtnl::{Pair, Rtnl};

/// The jobs, as on the command line.
pub const JOBS: [&str; 15] = [
    "empty",
    "loopback-up",
    "loopback-down",
    "loopback-get",
    "bridge",
    "attach",
    "look",
    "detach",
    "masquerade",
    "attach-masquerade",
    "detach-masquerade",
    "collect",
    "reserve",
    "look-up",
    "release",
];

/// The name of the bridge, which plugins are told as well.
pub const BRIDGE: &str = "bench0";
/// The name of the container's interface.
pub const IFNAME: &str = "eth0";

/// Indexes that nothing else has, so that no link need be asked for its own.
const BRIDGE_INDEX: u32 = 1_000_000;
const INSIDE_INDEX: u32 = 1_000_000;

/// The host ends of containers, but for the first, which stays when the others are collected.
const GROUP: u32 = 7;

/// Where a job is done.
pub struct Place {
    number: u16,
    netns: PathBuf,
    own: Option<File>,
}

impl Place {
    /// For a container whose identifier ends with four hexadecimal digits, its number.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn new(id: &str, netns: &Path) -> Result<Place> {
        let digits = id.len().checked_sub(4).and_then(|start| id.get(start..));
        let number = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let number = number.ok_or_else(|| format!("the container has no number: {id:?}"))?;
        Ok(Place { number, netns: netns.to_owned(), own: None })
    }

    /// For the container of a plugin's environment. Not every job needs one.
    ///
    /// # Errors
    ///
    /// If it has no number.
    pub fn from_environment() -> Result<Place> {
        let netns = env::var_os("CNI_NETNS").unwrap_or_default();
        Place::new(&env::var("CNI_CONTAINERID").unwrap_or_else(|_| "0000".to_owned()), netns.as_ref())
    }

    /// The same, but the thread comes back from the container.
    ///
    /// # Errors
    ///
    /// If its own namespace cannot be opened.
    pub fn returning(self) -> Result<Place> {
        Ok(Place { own: Some(File::open("/proc/thread-self/ns/net")?), ..self })
    }

    /// `10.1.x.y`; the first address is the bridge's.
    fn address(&self) -> Ipv4Addr {
        let [high, low] = (self.number + 2).to_be_bytes();
        Ipv4Addr::new(10, 1, high, low)
    }

    fn host_end(&self) -> String {
        format!("floor{}", self.number)
    }

    /// A socket in the container's namespace.
    fn inside(&self) -> Result<Rtnl> {
        self.inside_of(&self.open()?)
    }

    fn open(&self) -> Result<File> {
        File::open(&self.netns).map_err(|err| format!("{}: {err}", self.netns.display()).into())
    }

    fn inside_of(&self, netns: &File) -> Result<Rtnl> {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        let rtnl = Rtnl::open();
        if let Some(own) = &self.own {
            move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Network))?;
        }
        Ok(rtnl?)
    }

    fn attach(&self) -> Result<()> {
        let netns = self.open()?;
        let pair = Pair {
            host: (&self.host_end(), BRIDGE_INDEX + 1 + u32::from(self.number)),
            bridge: BRIDGE_INDEX,
            group: if self.number == 0 { GROUP + 1 } else { GROUP },
            inside: (IFNAME, INSIDE_INDEX),
            netns: netns.as_fd(),
        };
        Rtnl::open()?.add_pair(&pair)?;
        let inside = self.inside_of(&netns)?;
        Ok(inside.configure(INSIDE_INDEX, (self.address(), 16), Some(gateway()))?)
    }
}

fn gateway() -> Ipv4Addr {
    Ipv4Addr::new(10, 1, 0, 1)
}

/// Does a job.
///
/// # Errors
///
/// What the kernel says, or that there is no such job.
pub fn perform(job: &str, place: &Place) -> Result<()> {
    match job {
        "empty" => Ok(()),
        "loopback-up" => Ok(place.inside()?.set_loopback(true)?),
        "loopback-down" => Ok(place.inside()?.set_loopback(false)?),
        "loopback-get" => there(place.inside()?.loopback_is_up()?),
        "bridge" => {
            let rtnl = Rtnl::open()?;
            rtnl.add_bridge(BRIDGE, BRIDGE_INDEX)?;
            Ok(rtnl.configure(BRIDGE_INDEX, (gateway(), 16), None)?)
        }
        "attach" => place.attach(),
        "look" => there(place.inside()?.is_up(IFNAME)? == Some(true)),
        "detach" => Ok(Rtnl::open()?.delete(&place.host_end())?),
        "masquerade" => Ok(Nft::open()?.prepare()?),
        "attach-masquerade" => {
            Nft::open()?.add(place.address())?;
            place.attach()
        }
        "detach-masquerade" => {
            // Its end waits until the kernel has thrown away what was deleted; the link gives it the time for that.
            let nft = Nft::open()?;
            nft.delete(place.address())?;
            Ok(Rtnl::open()?.delete(&place.host_end())?)
        }
        "collect" => Ok(Rtnl::open()?.delete_group(GROUP)?),
        "reserve" => Ok(File::create_new(reservation(place)?)?.write_all(b"floor\r\neth0")?),
        "look-up" => Ok(fs::read(reservation(place)?).map(|_| ())?),
        "release" => Ok(fs::remove_file(reservation(place)?)?),
        _ => Err(format!("there is no job {job:?}").into()),
    }
}

fn there(up: bool) -> Result<()> {
    if up { Ok(()) } else { Err("the interface is not up".into()) }
}

/// A file of its own beside the reservations.
fn reservation(place: &Place) -> Result<PathBuf> {
    let folder = env::var_os("FLOOR_STATE").ok_or("FLOOR_STATE is not set")?;
    Ok(Path::new(&folder).join(format!("floor-{}", place.number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_at_the_end_of_the_identifier() {
        let place = Place::new("6f0bd1d4c00010", Path::new("/nowhere")).unwrap();
        assert_eq!((place.number, place.address()), (16, Ipv4Addr::new(10, 1, 0, 18)));
        assert!(Place::new("pod", Path::new("/nowhere")).is_err());
        assert!(Place::new("pod-more", Path::new("/nowhere")).is_err());
    }

    #[test]
    fn every_job_is_known() {
        let place = Place::new("0000", Path::new("/nowhere")).unwrap();
        for job in JOBS.iter().filter(|job| job.starts_with("loopback") || **job == "look") {
            let error = perform(job, &place).unwrap_err().to_string();
            assert!(error.contains("/nowhere"), "{job}: {error}");
        }
        assert!(perform("fly", &place).unwrap_err().to_string().contains("fly"));
    }
}
