//! Whose DNS ends up in the result, where configuration and IPAM plugin both may have some.
//!
//! It is only handed on: nothing resolves names here.

use cni_spec::Dns;
use serde::Deserialize;

/// The configuration's key `dns`, for plugins in whose results it stands in for what the IPAM plugin says.
///
/// Any member counts, be it an empty list: that is how to have none.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DnsKey {
    domain: String,
    nameservers: Option<Vec<String>>,
    options: Option<Vec<String>>,
    search: Option<Vec<String>>,
}

impl DnsKey {
    /// The configuration's if it has any, else the IPAM plugin's.
    pub fn or(&self, from_ipam: Dns) -> Dns {
        let DnsKey { domain, nameservers, options, search } = self.clone();
        let lists = [&nameservers, &options, &search];
        if domain.is_empty() && lists.iter().all(|list| list.is_none()) {
            return from_ipam;
        }
        let [nameservers, options, search] = [nameservers, options, search].map(Option::unwrap_or_default);
        Dns { domain, nameservers, options, search }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_member_counts() {
        let ipam = || Dns { nameservers: vec!["10.0.0.1".into()], ..Dns::default() };
        let or = |json: &str| cni_spec::json::decode::<DnsKey>(json.as_bytes()).unwrap().or(ipam());
        assert_eq!(or("{}"), ipam());
        assert_eq!(or(r#"{"domain": "", "search": null}"#), ipam());
        assert_eq!(or(r#"{"nameservers": []}"#), Dns::default());
        assert_eq!(or(r#"{"domain": "example.org"}"#).domain, "example.org");
        assert!(or(r#"{"options": ["rotate"]}"#).nameservers.is_empty());
    }
}
