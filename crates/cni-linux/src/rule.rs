//! Policy routing: the rules that say which routing table a packet is looked up in.
//!
//! Only rules that lead to a table; those that forbid, jump or translate are listed and otherwise left to whoever made
//! them. Routes are in [`route`](crate::route).

use std::fmt;

use ipnet::IpNet;

use crate::error::{Errno, Error, Result};
use crate::family::IpFamily;
use crate::netlink::encode::Body;
use crate::netlink::wire::{attributes, ip, string, u8_at, u32_at};
use crate::netlink::{Change, Request, rtm};
use crate::netns::Netns;
use crate::undo::Undo;

/// `struct fib_rule_hdr` and `FRA_…`, `include/uapi/linux/fib_rules.h`.
const FIB_RULE_HDR: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_PAD: u16 = 18;
const FRA_L3MDEV: u16 = 19;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;

/// A rule of policy routing (`ip rule show`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rule {
    /// Of which packets.
    pub family: IpFamily,
    /// The lowest is asked first.
    pub priority: u32,
    /// Packets from here; `None` is all.
    pub from: Option<IpNet>,
    /// Packets to here; `None` is all.
    pub to: Option<IpNet>,
    /// Packets that came in by the link of this name. `lo` is for those that this host sends.
    pub iif: Option<String>,
    /// Packets of sockets that are bound to the link of this name.
    pub oif: Option<String>,
    /// Packets with this mark, as far as the mask goes.
    pub mark: Option<(u32, u32)>,
    /// The table, 0 if it leads to none.
    pub table: u32,
    /// What it does: `FR_ACT_…`, 1 for a look-up in the table.
    pub action: u8,
    /// Who made it: `RTPROT_…`.
    pub protocol: u8,
    /// It has conditions that are not listed here, or all of them are turned round (`not`).
    pub has_more: bool,
}

impl Rule {
    /// What to add, or to delete, to have, or not to have, this rule; as far as it does not
    /// [have more](Rule::has_more) to it.
    pub fn spec(&self) -> RuleSpec {
        RuleSpec {
            family: self.family,
            table: self.table,
            priority: Some(self.priority),
            from: self.from,
            to: self.to,
            iif: self.iif.clone(),
            oif: self.oif.clone(),
            mark: self.mark,
        }
    }

    /// Reads the body of an `RTM_NEWRULE` message.
    pub(crate) fn read(body: &[u8]) -> Option<Rule> {
        let (to_length, from_length) = (u8_at(body, 1)?, u8_at(body, 2)?);
        let mut rule = Rule {
            family: IpFamily::from_number(u8_at(body, 0)?)?,
            priority: 0,
            from: None,
            to: None,
            iif: None,
            oif: None,
            mark: None,
            table: u8_at(body, 4)?.into(),
            action: u8_at(body, 7)?,
            protocol: 0,
            // The type of service is in the header.
            has_more: u8_at(body, 3)? != 0 || u32_at(body, 8)? & FIB_RULE_INVERT != 0,
        };
        let (mut mark, mut mask) = (0, 0);
        for (kind, value) in attributes(body.get(FIB_RULE_HDR..)?) {
            match kind {
                FRA_DST => rule.to = Some(IpNet::new(ip(value)?, to_length).ok()?),
                FRA_SRC => rule.from = Some(IpNet::new(ip(value)?, from_length).ok()?),
                FRA_IIFNAME => rule.iif = Some(string(value)),
                FRA_OIFNAME => rule.oif = Some(string(value)),
                FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
                FRA_FWMARK => mark = u32_at(value, 0)?,
                FRA_FWMASK => mask = u32_at(value, 0)?,
                FRA_TABLE => rule.table = u32_at(value, 0)?,
                FRA_PROTOCOL => rule.protocol = u8_at(value, 0)?,
                // All rules have these, or they say nothing.
                FRA_SUPPRESS_PREFIXLEN | FRA_SUPPRESS_IFGROUP if value == [0xff; 4] => {}
                FRA_FLOW | FRA_TUN_ID | FRA_L3MDEV if value.iter().all(|&octet| octet == 0) => {}
                FRA_PAD => {}
                _ => rule.has_more = true,
            }
        }
        rule.mark = (mask != 0 || mark != 0).then_some((mark, mask));
        Some(rule)
    }
}

/// A rule to be added, with [`Netns::add_rule`], or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a RuleSpec adds nothing until it is given to Netns::add_rule"]
pub struct RuleSpec {
    family: IpFamily,
    table: u32,
    priority: Option<u32>,
    from: Option<IpNet>,
    to: Option<IpNet>,
    iif: Option<String>,
    oif: Option<String>,
    mark: Option<(u32, u32)>,
}

impl RuleSpec {
    /// All packets of the family are looked up in this table (`table`).
    pub fn new(family: IpFamily, table: u32) -> RuleSpec {
        RuleSpec { family, table, priority: None, from: None, to: None, iif: None, oif: None, mark: None }
    }

    /// Of them only those from here (`from`). Host bits are dropped, and a prefix of no length is none.
    pub fn from(mut self, net: impl Into<Option<IpNet>>) -> RuleSpec {
        self.from = net.into().and_then(limiting);
        self
    }

    /// Of them only those to here (`to`). Host bits are dropped, and a prefix of no length is none.
    pub fn to(mut self, net: impl Into<Option<IpNet>>) -> RuleSpec {
        self.to = net.into().and_then(limiting);
        self
    }

    /// Of them only those that came in by the link of this name, whether there is one or not (`iif`).
    pub fn iif(mut self, name: impl Into<String>) -> RuleSpec {
        self.iif = Some(name.into());
        self
    }

    /// Of them only those of sockets that are bound to the link of this name, whether there is one or not (`oif`).
    pub fn oif(mut self, name: impl Into<String>) -> RuleSpec {
        self.oif = Some(name.into());
        self
    }

    /// Of them only those with this mark, as far as the mask goes (`fwmark MARK/MASK`).
    pub fn mark(mut self, mark: u32, mask: u32) -> RuleSpec {
        self.mark = Some((mark & mask, mask));
        self
    }

    /// The lowest is asked first (`priority`, `pref`). Without, the kernel puts it before all but the one for local
    /// addresses.
    pub fn priority(mut self, priority: impl Into<Option<u32>>) -> RuleSpec {
        self.priority = priority.into();
        self
    }

    fn body(&self, doing: &'static str) -> Result<Body> {
        let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
        let table = u8::try_from(self.table).unwrap_or(0);
        let header =
            [self.family.number(), length(self.to), length(self.from), 0, table, 0, 0, FR_ACT_TO_TBL];
        let mut body = Body::new(&[header.as_slice(), &[0; 4]].concat());
        for (kind, net) in [(FRA_DST, self.to), (FRA_SRC, self.from)] {
            let Some(address) = net.map(|net| net.addr()) else { continue };
            if IpFamily::from(address) != self.family {
                return Err(self.invalid(doing, format!("{address} is not of {}", self.family)));
            }
            body.address(kind, address);
        }
        for (kind, name) in [(FRA_IIFNAME, &self.iif), (FRA_OIFNAME, &self.oif)] {
            let Some(name) = name else { continue };
            if name.is_empty() || name.contains('\0') {
                // The kernel would read no name at all, or only what precedes the zero.
                return Err(self.invalid(doing, format!("{name:?} is not a link name")));
            }
            body.text(kind, name);
        }
        if let Some((mark, mask)) = self.mark {
            body.ne32(FRA_FWMARK, mark).ne32(FRA_FWMASK, mask);
        }
        if let Some(priority) = self.priority {
            body.ne32(FRA_PRIORITY, priority);
        }
        body.ne32(FRA_TABLE, self.table);
        Ok(body)
    }

    fn invalid(&self, doing: &'static str, cause: String) -> Error {
        Error::os(doing, self.to_string(), Errno::INVAL).with_cause(cause)
    }

    /// Whether the rule says all this and nothing else, but for its priority where none is asked for.
    fn is(&self, rule: &Rule) -> bool {
        let spec = RuleSpec { priority: self.priority.and(Some(rule.priority)), ..rule.spec() };
        !rule.has_more && rule.action == FR_ACT_TO_TBL && *self == spec
    }

    /// Whether the kernel, asked to delete this, takes the rule for it: it compares no more than it is told.
    fn could_be(&self, rule: &Rule) -> bool {
        fn fits<T: PartialEq>(wanted: Option<&T>, is: Option<&T>) -> bool {
            wanted.is_none() || wanted == is
        }
        rule.family == self.family
            && (rule.action, rule.table) == (FR_ACT_TO_TBL, self.table)
            && self.priority.is_none_or(|priority| priority == rule.priority)
            && fits(self.from.as_ref(), rule.from.as_ref())
            && fits(self.to.as_ref(), rule.to.as_ref())
            && fits(self.iif.as_ref(), rule.iif.as_ref())
            && fits(self.oif.as_ref(), rule.oif.as_ref())
            && fits(self.mark.as_ref(), rule.mark.as_ref())
    }
}

impl fmt::Display for RuleSpec {
    /// As in `ip rule add`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from, self.family) {
            (Some(net), _) => write!(f, "from {net}")?,
            (None, IpFamily::V4) => f.write_str("from all")?,
            (None, IpFamily::V6) => f.write_str("from all of ipv6")?,
        }
        if let Some(net) = self.to {
            write!(f, " to {net}")?;
        }
        if let Some((mark, mask)) = self.mark {
            write!(f, " fwmark {mark:#x}/{mask:#x}")?;
        }
        if let Some(name) = &self.iif {
            write!(f, " iif {name:?}")?;
        }
        if let Some(name) = &self.oif {
            write!(f, " oif {name:?}")?;
        }
        write!(f, " lookup {}", self.table)?;
        match self.priority {
            Some(priority) => write!(f, " priority {priority}"),
            None => Ok(()),
        }
    }
}

impl Netns {
    /// The rules of one family, in the order in which they are asked (`ip rule show`). The kernel filters by no more.
    pub fn rules(&self, family: IpFamily) -> Result<Vec<Rule>> {
        let body = Body::new(&[&[family.number()], [0; FIB_RULE_HDR - 1].as_slice()].concat());
        let request = Request { kind: rtm::GETRULE, body: &body, doing: "list rules", what: &family };
        let mut rules = self.socket().dump(&request, Rule::read)?;
        rules.retain(|rule| rule.family == family);
        Ok(rules)
    }

    /// Adds a rule (`ip rule add`). Pushes its deletion to `undo`.
    ///
    /// One request for a rule with a priority. For one without, the kernel finds a new priority each time, and would take
    /// the same rule any number of times: the rules are looked through first, so that two who add it at once can still
    /// both succeed. Give it a priority where that matters.
    ///
    /// # Errors
    ///
    /// [`Error::is_exists`] if there is such a rule already.
    pub fn add_rule(&self, rule: &RuleSpec, undo: &mut Undo) -> Result<()> {
        let doing = "add rule";
        let body = rule.body(doing)?;
        if rule.priority.is_none() && self.rules(rule.family)?.iter().any(|other| rule.is(other)) {
            return Err(Error::os(doing, rule.to_string(), Errno::EXIST));
        }
        let request = Request { kind: rtm::NEWRULE, body: &body, doing, what: rule };
        self.socket().change(&request, Change::Create)?;
        let (netns, rule) = (self.clone(), rule.clone());
        undo.push(format!("rule {rule}"), move || Ok(netns.del_rule(&rule).map(|_existed| ())?));
        Ok(())
    }

    /// Deletes the first rule that says exactly this, and nothing else, if there is one, and says whether there was
    /// (`ip rule del`). The priority may be left open.
    ///
    /// One request, and another if there is such a rule.
    ///
    /// # Errors
    ///
    /// The kernel deletes the first rule that says all this, whatever else it says. If that would be another one, as it can
    /// only be among rules of the same priority, none is deleted.
    pub fn del_rule(&self, rule: &RuleSpec) -> Result<bool> {
        let doing = "delete rule";
        rule.body(doing)?;
        let rules = self.rules(rule.family)?;
        let Some(found) = rules.iter().find(|other| rule.is(other)) else { return Ok(false) };
        let exactly = found.spec();
        if let Some(other) =
            rules.iter().find(|other| exactly.could_be(other)).filter(|&other| other != found)
        {
            let other = other.spec();
            let cause = format!("the kernel would delete another one, which is like it and more: {other}");
            return Err(Error::new(doing, rule.to_string(), cause));
        }
        let body = exactly.body(doing)?;
        let request = Request { kind: rtm::DELRULE, body: &body, doing, what: &exactly };
        match self.socket().change(&request, Change::Modify) {
            Ok(()) => Ok(true),
            Err(gone) if gone.is_gone() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// A network that is not all there is.
fn limiting(net: IpNet) -> Option<IpNet> {
    (net.prefix_len() > 0).then(|| net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn prints_as_ip_takes_it() {
        let rule = RuleSpec::new(IpFamily::V4, 100).from(net("10.1.2.3/32")).priority(7);
        assert_eq!(rule.to_string(), "from 10.1.2.3/32 lookup 100 priority 7");
        let rule = RuleSpec::new(IpFamily::V6, 5).to(net("fd00::/64")).mark(0x12, 0x10).iif("eth0").oif("lo");
        assert_eq!(
            rule.to_string(),
            r#"from all of ipv6 to fd00::/64 fwmark 0x10/0x10 iif "eth0" oif "lo" lookup 5"#
        );
    }

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        let refused = |rule: RuleSpec| rule.body("add rule").unwrap_err().to_string();
        let four = || RuleSpec::new(IpFamily::V4, 100);
        assert_eq!(
            refused(four().from(net("fd00::/64"))),
            "add rule from fd00::/64 lookup 100: fd00:: is not of ipv4"
        );
        assert_eq!(refused(four().iif("")), r#"add rule from all iif "" lookup 100: "" is not a link name"#);
        refused(four().oif("eth\0"));
        assert_eq!(four().from(net("0.0.0.0/0")).to(net("::/0")), four(), "that is all");
    }
}
