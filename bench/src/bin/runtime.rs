//! A container runtime with our plugins linked in: the whole chain of a network, and no process started.
//!
//! It stays and attaches containers as it is told to on standard input ([`bench::resident`]). `tools/build-static
//! runtime` builds it in the way in which the plugins are shipped.
//!
//! usage: runtime NETWORK CACHE, a configuration list and a folder.

use std::env;
use std::error::Error;
use std::process::ExitCode;

use bench::resident::serve;
use libcni::{Attachment, Cni, Embedded, NetworkConfig};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            complain(&*err);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(network), Some(cache)) = (arguments.next(), arguments.next()) else {
        return Err("usage: runtime NETWORK CACHE".into());
    };
    let network = NetworkConfig::parse(network.as_bytes())?;
    let plugins = cni_plugins::PLUGINS.iter().map(|plugin| (plugin.name, plugin.run));
    let cni = Cni::new(Embedded::new(plugins)).cache_dir(cache);

    serve(|command, id, netns| -> Result<(), Box<dyn Error>> {
        let attachment = Attachment {
            container_id: id.to_owned(),
            netns: netns.to_owned(),
            ifname: "eth0".to_owned(),
            ..Attachment::default()
        };
        match command {
            "ADD" => cni.add(&network, &attachment).map(|_added| ())?,
            "CHECK" => cni.check(&network, &attachment)?,
            "DEL" => cni.del(&network, &attachment)?,
            _ => return Err(format!("there is no command {command:?}").into()),
        }
        Ok(())
    })
}

#[allow(clippy::print_stderr, reason = "this is the program itself")]
fn complain(err: &dyn Error) {
    eprintln!("runtime: {err}");
}
