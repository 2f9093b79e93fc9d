//! The least that a call can cost: a process that makes the one request to the kernel that the job needs, and ends.
//!
//! It is no plugin. It reads no configuration, checks nothing and says nothing, so that what a plugin takes beyond it
//! is the plugin's own. `tools/build-static floor` builds it in the way in which the plugins are shipped.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;

use bench::rtnl::Rtnl;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

fn main() -> Result<(), Box<dyn Error>> {
    let job = std::env::args_os().nth(1).unwrap_or_default();
    match job.to_str() {
        Some("empty") => Ok(()),
        Some("loopback-up") => Ok(inside()?.set_loopback(true)?),
        Some("loopback-down") => Ok(inside()?.set_loopback(false)?),
        Some("loopback-get") => {
            let up = inside()?.loopback_is_up()?;
            if up { Ok(()) } else { Err("the loopback interface is down".into()) }
        }
        _ => Err("usage: floor empty|loopback-up|loopback-down|loopback-get".into()),
    }
}

/// A socket in the container's namespace, which this process enters for good.
fn inside() -> Result<Rtnl, Box<dyn Error>> {
    let namespace = File::open(std::env::var_os("CNI_NETNS").ok_or("CNI_NETNS is not set")?)?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(Rtnl::open()?)
}
