//! Answers without what differs from one run to the next by chance: MACs, and names and numbers that are made up; and
//! changes without what the kernel does by itself.

use std::collections::BTreeSet;

/// The text with `<mac>`, `veth<…>` and the like in place of what chance or a hash has chosen.
pub(crate) fn normal(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    for word in words(text) {
        // `veth0123abcd: veth …` is a name, and the colon is not part of it.
        let (word, colon) = match word.strip_suffix(':') {
            Some(name) if !name.ends_with(':') => (name, ":"),
            _ => (word, ""),
        };
        if is_mac(word) {
            normal.push_str("<mac>");
        } else if is_host_end(word) {
            normal.push_str("veth<any>");
        } else if word.starts_with("fe80::") {
            normal.push_str("<link-local>");
        } else {
            normal.push_str(word);
        }
        normal.push_str(colon);
    }
    normal
}

/// What the kernel does by itself, when it has the time.
const OF_THE_KERNEL: [&str; 4] = [" qdisc of ", " <link-local>", " ff00::/8 ", " route in table 255: "];

/// How two plugins write a rule of a firewall is not compared: packets tell what it does.
const OF_FIREWALLS: [&str; 2] = ["+ nft ", "- nft "];

/// Changes of a namespace that can be compared. A line that goes and comes again has only changed by chance.
pub(crate) fn normal_changes(changes: &[String]) -> BTreeSet<String> {
    let lines = changes.iter().map(|line| without_defaults(&normal(line)));
    let lines = lines.filter(|line| !OF_THE_KERNEL.iter().any(|part| line.contains(part)));
    let lines: BTreeSet<String> =
        lines.filter(|line| !OF_FIREWALLS.iter().any(|start| line.starts_with(start))).collect();
    let reversed = |line: &str| match line.split_at(1) {
        ("+", rest) => format!("-{rest}"),
        (_, rest) => format!("+{rest}"),
    };
    lines.iter().filter(|line| !lines.contains(&reversed(line))).cloned().collect()
}

/// A line of a link without its group, which one implementation uses for what it can find again, and without the length
/// of its queue, which a virtual link hardly has; and one of an address without the flags that say how it came about.
fn without_defaults(line: &str) -> String {
    let is_about = |what: &str| line.get(2..).is_some_and(|line| line.starts_with(what));
    let left_out: &[&str] = match () {
        () if is_about("link ") => &["group", "qlen"],
        () if is_about("address ") => &["flags"],
        () => return line.to_owned(),
    };
    let mut words = line.split(' ');
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if left_out.contains(&word) {
            words.next();
        } else {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// The text in pieces that are words, or what is between them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let in_word = |c: char| c.is_ascii_alphanumeric() || c == ':' || c == '-';
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let is_word = in_word(first);
        let end = rest.find(|c| in_word(c) != is_word).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

fn is_mac(word: &str) -> bool {
    let parts: Vec<&str> = word.split(':').collect();
    parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && is_hex(part))
}

/// Those of the reference have 8 digits, ours 11.
fn is_host_end(word: &str) -> bool {
    word.strip_prefix("veth").is_some_and(|digits| [8, 11].contains(&digits.len()) && is_hex(digits))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chance_has_chosen_is_hidden() {
        let line = r#"+ link veth0123abcd: veth [up] mac 0a:58:00:00:00:01 mtu 1500 {"name":"vethdeadbeef123"} vethx"#;
        let hidden = r#"+ link veth<any>: veth [up] mac <mac> mtu 1500 {"name":"veth<any>"} vethx"#;
        assert_eq!(normal(line), hidden);
        assert_eq!(normal("10.1.2.3/24 fe80::1/64"), "10.1.2.3/24 <link-local>/64");
    }

    #[test]
    fn what_the_kernel_does_is_no_change() {
        let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let changes = lines(&[
            "+ address of eth0: fe80::1/64 scope link",
            "+ route in table 254: fe80::/64 dev eth0",
            "+ link veth01234567: veth [up] mac 02:00:00:00:00:01 group 7 qlen 0 port []",
            "- link cni0: bridge [up] mac 02:00:00:00:00:02",
            "+ link cni0: bridge [up] mac 02:00:00:00:00:03",
            "+ nft table inet x",
            "+ route in table 255: 10.1.2.1/32 dev cni0",
            "+ address of cni0: 10.1.2.1/24 scope global flags 0x80",
        ]);
        let expected =
            ["+ address of cni0: 10.1.2.1/24 scope global", "+ link veth<any>: veth [up] mac <mac> port []"];
        assert_eq!(normal_changes(&changes), BTreeSet::from(expected.map(str::to_owned)));
    }
}
