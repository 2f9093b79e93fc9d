//! Packets through what was made: a datagram from one namespace to an address in another, and its echo back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use cni_linux::Netns;

use crate::cli::failure::reason;

/// How long an address may take to become usable: duplicate address detection takes up to two seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a datagram may be on its way, address resolution included.
const ON_THE_WAY: Duration = Duration::from_secs(2);
/// What is sent.
const PAYLOAD: &[u8; 32] = b"ferrocni: is anybody listening?\n";

/// A datagram that went there and came back.
pub(super) struct Echo {
    /// How long that took.
    pub(super) took: Duration,
    /// How many bytes it carried.
    pub(super) bytes: usize,
}

/// Sends a datagram from `sender` to `address` in `receiver`, and waits for the echo.
///
/// # Errors
/// How far it came.
pub(super) fn echo(sender: &Netns, receiver: &Netns, address: IpAddr) -> Result<Echo, String> {
    // A socket belongs to the namespace that it was opened in, wherever it is used afterwards.
    let listening = receiver.run(|| bind_when_usable(address)).map_err(|e| e.to_string())?;
    let listening = listening.map_err(|e| format!("listening on {address}: {}", reason(&e)))?;
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sending = sender.run(|| open(any)).map_err(|e| e.to_string())?;
    let sending = sending.map_err(|e| format!("opening a socket: {}", reason(&e)))?;

    let there = listening.local_addr().map_err(|e| reason(&e))?;
    let start = Instant::now();
    sending.send_to(PAYLOAD, there).map_err(|e| format!("sending to {address}: {}", reason(&e)))?;
    let from = receive(&listening).map_err(|e| format!("nothing arrived at {address}: {}", waited(&e)))?;
    listening.send_to(PAYLOAD, from).map_err(|e| format!("answering {}: {}", from.ip(), reason(&e)))?;
    receive(&sending).map_err(|e| format!("no answer from {address} arrived: {}", waited(&e)))?;
    Ok(Echo { took: start.elapsed(), bytes: PAYLOAD.len() })
}

fn bind_when_usable(address: IpAddr) -> io::Result<UdpSocket> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match open(address) {
            Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable && Instant::now() < give_up => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done,
        }
    }
}

fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.set_read_timeout(Some(ON_THE_WAY))?;
    Ok(socket)
}

/// Receives our datagram and no other.
fn receive(socket: &UdpSocket) -> io::Result<SocketAddr> {
    let mut buffer = [0; 2 * PAYLOAD.len()];
    loop {
        let (length, from) = socket.recv_from(&mut buffer)?;
        if buffer[..length] == *PAYLOAD {
            return Ok(from);
        }
    }
}

fn waited(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("waited for {} s", ON_THE_WAY.as_secs())
        }
        _ => reason(error),
    }
}
