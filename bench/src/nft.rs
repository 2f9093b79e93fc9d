//! The transaction of the firewall that the floor makes: an address into a set, or out of it.
//!
//! It is no firewall: no rule looks into the set, for a packet is never sent.

use std::io;
use std::net::Ipv4Addr;

use rustix::net::netlink;

use crate::netlink::{ACK, CREATE, Datagram, Socket};

/// `include/uapi/linux/netfilter/nfnetlink.h`
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `include/uapi/linux/netfilter/nf_tables.h`
const NEWTABLE: u16 = SUBSYSTEM;
const NEWSET: u16 = SUBSYSTEM | 9;
const NEWSETELEM: u16 = SUBSYSTEM | 12;
const DELSETELEM: u16 = SUBSYSTEM | 14;
const TABLE_NAME: u16 = 1;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_ID: u16 = 10;
const ELEM_LIST_TABLE: u16 = 1;
const ELEM_LIST_SET: u16 = 2;
const ELEM_LIST_ELEMENTS: u16 = 3;
const LIST_ELEM: u16 = 1;
const ELEM_KEY: u16 = 1;
const DATA_VALUE: u16 = 1;
/// `NFPROTO_INET`, `include/uapi/linux/netfilter.h`
const INET: u8 = 1;
/// What `nft` calls `ipv4_addr`.
const IPV4_ADDR: u32 = 7;

const TABLE: &str = "floor";
const SET: &str = "sources";

/// A socket for the tables of the namespace in which it was opened.
pub struct Nft(Socket);

impl Nft {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Nft> {
        Socket::open(Some(netlink::NETFILTER)).map(Nft)
    }

    /// `nft add table inet floor; add set inet floor sources { type ipv4_addr; }`
    pub fn prepare(&self) -> io::Result<()> {
        let mut batch = begin();
        batch.message(NEWTABLE, CREATE, &family(INET, 0), |table| {
            table.text(TABLE_NAME, TABLE);
        });
        batch.message(NEWSET, ACK | CREATE, &family(INET, 0), |set| {
            set.text(SET_TABLE, TABLE).text(SET_NAME, SET);
            set.attribute(SET_KEY_TYPE, &IPV4_ADDR.to_be_bytes());
            set.attribute(SET_KEY_LEN, &4_u32.to_be_bytes());
            set.attribute(SET_ID, &1_u32.to_be_bytes());
        });
        self.commit(batch, 3)
    }

    /// `nft add element inet floor sources { ADDRESS }`
    pub fn add(&self, address: Ipv4Addr) -> io::Result<()> {
        self.element(NEWSETELEM, CREATE, address)
    }

    /// `nft delete element inet floor sources { ADDRESS }`
    pub fn delete(&self, address: Ipv4Addr) -> io::Result<()> {
        self.element(DELSETELEM, 0, address)
    }

    fn element(&self, kind: u16, flags: u16, address: Ipv4Addr) -> io::Result<()> {
        let mut batch = begin();
        batch.message(kind, ACK | flags, &family(INET, 0), |message| {
            message.text(ELEM_LIST_TABLE, TABLE).text(ELEM_LIST_SET, SET);
            message.nested(ELEM_LIST_ELEMENTS, |list| {
                list.nested(LIST_ELEM, |element| {
                    element.nested(ELEM_KEY, |key| {
                        key.attribute(DATA_VALUE, &address.octets());
                    });
                });
            });
        });
        self.commit(batch, 2)
    }

    fn commit(&self, mut batch: Datagram, awaited: u32) -> io::Result<()> {
        batch.message(BATCH_END, 0, &family(0, SUBSYSTEM >> 8), |_| {});
        batch.exchange(&self.0, awaited).map(|_| ())
    }
}

fn begin() -> Datagram {
    let mut batch = Datagram::default();
    batch.message(BATCH_BEGIN, 0, &family(0, SUBSYSTEM >> 8), |_| {});
    batch
}

/// `struct nfgenmsg`
fn family(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}
