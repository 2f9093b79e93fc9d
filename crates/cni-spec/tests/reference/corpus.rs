//! Documents for both to read, odd in every way that has ever made a difference; the same ones every time.

/// Numbers without a source, the same every time (xorshift64*).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    pub(crate) fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    /// One in `n` times.
    pub(crate) fn seldom(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }

    /// A key that Go takes for this one.
    pub(crate) fn key(&mut self, key: &str) -> String {
        match self.roll(12) {
            0 => key.to_ascii_uppercase(),
            1 => key.to_ascii_lowercase(),
            2 => key.replace('s', "ſ").replace('k', "\u{212a}"),
            _ => key.to_owned(),
        }
    }

    /// An object of some of these members, in any order, with others between them.
    pub(crate) fn object(&mut self, members: Vec<(&str, String)>) -> String {
        let mut texts = Vec::new();
        for (key, value) in members {
            let value = if self.seldom(15) { "null".to_owned() } else { value };
            texts.push(format!("{}:{value}", string(&self.key(key))));
        }
        if self.seldom(3) {
            texts.push(format!(
                "{}: [{{}}, 1e300, \"x\"]",
                self.pick(&["\"unknown\"", "\"\"", "\"ÄÖ\"", "\"ip5\""])
            ));
        }
        for last in (1..texts.len()).rev() {
            texts.swap(last, self.roll(last + 1));
        }
        let space = self.pick(&["", " ", "\n\t"]);
        format!("{{{space}{}{space}}}", texts.join(&format!(",{space}")))
    }

    pub(crate) fn list(&mut self, most: usize, mut item: impl FnMut(&mut Dice) -> String) -> String {
        let items: Vec<String> = (0..self.roll(most + 1)).map(|_| item(self)).collect();
        format!("[{}]", items.join(","))
    }

    pub(crate) fn text(&mut self) -> String {
        string(self.pick(ODD_TEXT))
    }
}

pub(crate) fn string(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

pub(crate) const ODD_TEXT: &[&str] = &[
    "",
    "eth0",
    "a",
    "<b>&amp;</b>",
    "\u{2028}\u{2029}",
    "é😀",
    "\u{0}\u{1}\u{1f}\u{7f}",
    "\u{8}\u{c}\n\r\t",
    "\"quoted\" \\ back\\u0008slash /",
    "\u{fffd}\u{ffff}\u{10ffff}",
    "null",
    "00:11:22:33:44:55",
    "10.0.0.1",
];

pub(crate) const ODD_IP4: &[&str] = &[
    "10.1.0.5",
    "0.0.0.0",
    "255.255.255.255",
    "::ffff:10.1.0.5",
    "::FFFF:a01:5",
    "0:0:0:0:0:ffff:10.1.0.5",
    "127.0.0.1",
];
pub(crate) const ODD_IP6: &[&str] = &[
    "::",
    "::1",
    "2001:DB8::00a:B",
    "1:2:3:4:5:6:7:8",
    "1:0:0:2:0:0:0:3",
    "1:0:0:2:3:0:0:4",
    "::1.2.3.4",
    "fe80::1",
    "1::2:0:3:4:5:6",
    "64:ff9b::192.0.2.1",
    "::ffff:0:1.2.3.4",
    "1:2:3:4:5:6::",
    "::2:3:4:5:6:7:8",
    "0:1::",
];
pub(crate) const BAD_IP: &[&str] = &[
    "010.1.0.5",
    "10.1.0.05",
    "10.1.0",
    "10.1.0.256",
    "10.1.0.5.",
    " 10.1.0.5",
    "10.1.0.5 ",
    "1::2::3",
    ":::",
    ":1",
    "1:",
    "::1:2:3:4:5:6:7:8",
    "1:2:3:4:5:6:7::8:9",
    "fe80::1%eth0",
    "[::1]",
    "::ffff:010.1.0.5",
    "1:2:3:4:5:6:7:1.2.3.4",
    "x",
    "10.1.0.+5",
    "1.2.3.4:80",
    "12345::",
    "g::",
];
pub(crate) const PREFIXES4: &[&str] = &["/8", "/0", "/32", "/16", "/24", "/024", "/31"];
pub(crate) const PREFIXES6: &[&str] = &["/64", "/0", "/128", "/48", "/127", "/0064", "/97", "/96", "/95"];
pub(crate) const BAD_PREFIXES: &[&str] =
    &["", "/", "/33x", "/129", "/-1", "/+8", "/ 8", "/8 ", "/8/8", "/4294967304", "/1e1"];

/// An address of the family with its prefix, seldom one that is none.
pub(crate) fn cidr(dice: &mut Dice, v6: bool) -> String {
    if dice.seldom(60) {
        return string(&format!("{}{}", dice.pick(BAD_IP), dice.pick(PREFIXES4)));
    }
    let (ip, prefix) = if v6 {
        (dice.pick(ODD_IP6), dice.pick(PREFIXES6))
    } else {
        let ip = dice.pick(ODD_IP4);
        (ip, dice.pick(if ip.contains(':') { PREFIXES6 } else { PREFIXES4 }))
    };
    string(&format!("{ip}{}", if dice.seldom(60) { dice.pick(BAD_PREFIXES) } else { prefix }))
}

pub(crate) fn ip(dice: &mut Dice) -> String {
    match dice.roll(60) {
        0 => string(dice.pick(BAD_IP)),
        1 => "17".to_owned(),
        2..=5 => "\"\"".to_owned(),
        6..=30 => string(dice.pick(ODD_IP6)),
        _ => string(dice.pick(ODD_IP4)),
    }
}

pub(crate) fn route(dice: &mut Dice, v6: bool) -> String {
    let dst = cidr(dice, v6);
    let gw = ip(dice);
    dice.object(vec![("dst", dst), ("gw", gw)])
}

pub(crate) fn dns(dice: &mut Dice) -> String {
    let lists = [(); 3].map(|()| dice.list(3, Dice::text));
    let [nameservers, search, options] = lists;
    let domain = dice.text();
    let mut members =
        vec![("nameservers", nameservers), ("domain", domain), ("search", search), ("options", options)];
    members.truncate(dice.roll(5));
    dice.object(members)
}

/// A result of 0.1 or 0.2.
pub(crate) fn families(dice: &mut Dice, version: &str) -> String {
    let mut members = vec![("dns", dns(dice))];
    if !version.is_empty() {
        members.push(("cniVersion", string(version)));
    }
    for (key, v6) in [("ip4", false), ("ip6", true)] {
        if !dice.seldom(4) {
            let routes = dice.list(3, |dice| route(dice, v6));
            let family = vec![("ip", cidr(dice, v6)), ("gateway", ip(dice)), ("routes", routes)];
            members.push((key, dice.object(family)));
        }
    }
    dice.object(members)
}

/// A result of 0.3 and later.
pub(crate) fn lists(dice: &mut Dice, version: &str) -> String {
    let old = version < "1";
    let interfaces = dice.list(3, |dice| {
        let mut members = vec![("name", dice.text()), ("mac", dice.text()), ("sandbox", dice.text())];
        members.truncate(dice.roll(4));
        dice.object(members)
    });
    let ips = dice.list(4, |dice| {
        let v6 = dice.seldom(2);
        let numbers =
            ["0", "1", "-1", "2147483648", "9007199254740993", "-9223372036854775808", "1.0", "1e1", "\"1\""];
        let index = dice.roll(40).min(if dice.seldom(20) { 8 } else { 5 });
        let mut members = vec![
            ("address", cidr(dice, v6)),
            ("interface", numbers[index].to_owned()),
            ("gateway", ip(dice)),
        ];
        members.truncate(1 + dice.roll(3));
        let mut text = dice.object(members);
        if old {
            // never null: without it the reference finds no address
            text = text.replacen('{', if v6 { "{\"version\":\"6\"," } else { "{\"version\":\"4\"," }, 1);
        }
        text
    });
    let routes = dice.list(3, |dice| {
        let v6 = dice.seldom(2);
        route(dice, v6)
    });
    let dns = dns(dice);
    let mut text =
        dice.object(vec![("interfaces", interfaces), ("ips", ips), ("routes", routes), ("dns", dns)]);
    text = text.replacen('{', &format!("{{\"cniVersion\":{},", string(version)), 1);
    text
}

/// A plugin's configuration.
pub(crate) fn config(dice: &mut Dice) -> String {
    let kind = if dice.seldom(20) { "\"\"".to_owned() } else { string("bridge") };
    let ipam = vec![("type", dice.text()), ("subnet", "7".to_owned())];
    let mac = dice.pick(&["true", "false", "true", "\"true\""]);
    let previous = dice.pick(&["{}", "{\"ips\":[]}", "{\"cniVersion\":7}", "null"]).to_owned();
    let members = vec![
        ("name", dice.text()),
        ("cniVersion", string(dice.pick(&VERSIONS))),
        ("ipam", dice.object(ipam)),
        // a map: another case would be another key
        ("capabilities", format!("{{\"mac\":{mac}}}")),
        ("dns", dns(dice)),
        ("prevResult", previous),
        ("isGateway", "true".to_owned()),
    ];
    dice.object(members).replacen('{', &format!("{{\"type\":{kind},"), 1)
}

/// The versions that the reference's sources know.
pub(crate) const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];
