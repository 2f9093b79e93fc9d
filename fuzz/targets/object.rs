//! An object: changing one member leaves the others as they stood.

#![no_main]

use cni_spec::json::Object;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    let Ok(object) = Object::parse(document) else { return };
    let members = |o: &Object| o.iter().map(|(k, v)| (k.to_owned(), v.get().to_owned())).collect::<Vec<_>>();
    let before = members(&object);
    assert_eq!(members(&Object::parse(object.to_json().as_bytes()).expect("it was written here")), before);

    for (key, _) in before.iter().take(4) {
        let mut changed = object.clone();
        changed.set(key, "new");
        assert_eq!(changed.get(key).map(|v| v.get()), Some("\"new\""));
        changed.remove(key);
        assert!(changed.get(key).is_none());
        let after = members(&changed);
        let mut rest = before.iter();
        assert!(after.iter().all(|member| rest.any(|b| b == member)));
        assert!(
            before
                .iter()
                .all(|(k, v)| k.to_lowercase() == key.to_lowercase()
                    || after.contains(&(k.clone(), v.clone())))
        );
    }
});
