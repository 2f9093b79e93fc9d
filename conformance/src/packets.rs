//! Datagrams between namespaces: whether they arrive, and whose they seem to be.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::case::Packet;
use crate::stage::Stage;

/// How long one may take that has to arrive: neighbours have to be found, and a machine may be loaded.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long one is waited for that must not arrive.
const GLIMPSE: Duration = Duration::from_millis(200);

/// Sends again after this, because the first may be lost while a link comes up.
const AGAIN: Duration = Duration::from_millis(100);

/// A socket says so when its time is over, or when a signal came in between.
const NOT_YET: [io::ErrorKind; 3] =
    [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut, io::ErrorKind::Interrupted];

/// The port of the service `discard`.
const PORT: u16 = 9;

/// Sends a packet as the case says; the sender's address as the receiver sees it, or nothing if none arrives.
pub(crate) fn send(packet: &Packet, stage: &Stage) -> Result<Option<IpAddr>, String> {
    let address: IpAddr = packet.address.parse().map_err(|err| format!("{}: {err}", packet.address))?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = |place, port| -> Result<UdpSocket, String> {
        let bound =
            stage.netns(place)?.run(|| UdpSocket::bind((any, port))).map_err(|err| err.to_string())?;
        bound.map_err(|err| format!("cannot have a socket: {err}"))
    };
    let (sender, receiver) = (socket(packet.from, 0)?, socket(packet.to, PORT)?);
    receiver.set_read_timeout(Some(AGAIN)).map_err(|err| err.to_string())?;
    let limit = if packet.seen_as.is_some() { PATIENCE } else { GLIMPSE };
    let started = Instant::now();
    while started.elapsed() < limit {
        // Where there is no route none is sent: it does not arrive.
        let _ = sender.send_to(b"conformance", SocketAddr::new(address, PORT));
        match receiver.recv_from(&mut [0; 64]) {
            Ok((_, from)) => return Ok(Some(from.ip())),
            Err(err) if NOT_YET.contains(&err.kind()) => {}
            Err(err) => return Err(format!("cannot receive: {err}")),
        }
    }
    Ok(None)
}
