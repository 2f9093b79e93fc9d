//! nft's rule set as lines that say where they belong.
//!
//! It is read with the program `nft`: what this crate writes is looked at by somebody else's eyes, in the syntax that humans
//! know.

use std::process::Command;

/// The rule set in the namespace of the calling thread. Each line is preceded by the blocks that it is in, so that it
/// says where it belongs even when it is sorted among others, and rules by their number in the chain.
pub(super) fn lines() -> Vec<String> {
    match nft(&["--stateless", "list", "ruleset"]) {
        Ok(listed) => flatten(&listed),
        Err(why) => vec![format!("nft: not looked at, {why}")],
    }
}

fn flatten(listed: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut blocks, mut rules): (Vec<&str>, usize) = (Vec::new(), 0);
    let mut elements: Option<String> = None;
    for line in listed.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(begun) = line.strip_prefix("elements = {") {
            elements = Some(String::new());
            add_elements(begun, &mut elements, &blocks, &mut lines);
        } else if elements.is_some() {
            add_elements(line, &mut elements, &blocks, &mut lines);
        } else if line == "}" {
            blocks.pop();
        } else if let Some(opened) = line.strip_suffix('{') {
            blocks.push(opened.trim_end());
            lines.push(format!("nft {}", blocks.join(" / ")));
            rules = 0;
        } else if blocks.last().is_some_and(|block| block.starts_with("chain ")) && is_rule(line) {
            rules += 1;
            lines.push(format!("nft {} / {rules}: {line}", blocks.join(" / ")));
        } else {
            lines.push(format!("nft {} / {line}", blocks.join(" / ")));
        }
    }
    lines
}

/// A chain begins with what it is, and what it is for.
fn is_rule(line: &str) -> bool {
    !line.starts_with("type ") && !line.starts_with("comment ")
}

/// Elements go on until a brace, over as many lines as they need; each gets a line of its own.
fn add_elements(part: &str, elements: &mut Option<String>, blocks: &[&str], lines: &mut Vec<String>) {
    let Some(collected) = elements else { return };
    collected.push_str(part.trim());
    collected.push(' ');
    if !part.trim_end().ends_with('}') {
        return;
    }
    let all = collected.trim_end().trim_end_matches('}').trim().to_owned();
    *elements = None;
    let mut quoted = false;
    let separate = |character| {
        quoted ^= character == '"';
        character == ',' && !quoted
    };
    let set = blocks.join(" / ");
    lines.extend(all.split(separate).map(|element| format!("nft {set} / element {}", element.trim())));
}

/// What the program `nft` prints, or why it does not.
#[allow(clippy::disallowed_methods, reason = "nft's own syntax is what a human can compare")]
pub(in crate::testing) fn nft(arguments: &[&str]) -> Result<String, String> {
    let ran =
        Command::new("nft").args(arguments).output().map_err(|err| format!("cannot start nft: {err}"))?;
    if ran.status.success() {
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    } else {
        Err(format!("nft failed: {}", String::from_utf8_lossy(&ran.stderr).trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_where_it_belongs() {
        let listed = r#"table inet t {
	comment "ours"
	set s {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8 comment "a, b", 192.0.2.0/24,
			     255.255.255.0/24 }
	}

	map one {
		type ifname : ether_addr
		elements = { "veth0" : 02:00:00:aa:00:01 }
	}

	chain c {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @s accept
		counter drop
	}

	chain d {
		accept
	}
}
"#;
        let expected = [
            "table inet t",
            r#"table inet t / comment "ours""#,
            "table inet t / set s",
            "table inet t / set s / type ipv4_addr",
            "table inet t / set s / flags interval",
            r#"table inet t / set s / element 10.0.0.0/8 comment "a, b""#,
            "table inet t / set s / element 192.0.2.0/24",
            "table inet t / set s / element 255.255.255.0/24",
            "table inet t / map one",
            "table inet t / map one / type ifname : ether_addr",
            r#"table inet t / map one / element "veth0" : 02:00:00:aa:00:01"#,
            "table inet t / chain c",
            "table inet t / chain c / type nat hook postrouting priority srcnat; policy accept;",
            "table inet t / chain c / 1: ip saddr @s accept",
            "table inet t / chain c / 2: counter drop",
            "table inet t / chain d",
            "table inet t / chain d / 1: accept",
        ];
        let expected: Vec<_> = expected.iter().map(|line| format!("nft {line}")).collect();
        assert_eq!(flatten(listed), expected);
    }
}
