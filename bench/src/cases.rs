//! All cases, in the order of the table.

use crate::case::{Case, Config, Group, How, Leaves, Scene, Step};

const fn step(plugin: &'static str, command: &'static str, config: Config, floor: &'static str) -> Step {
    Step { plugin, command, config, floor }
}

const LOOPBACK_ADD: Step = step("loopback", "ADD", Config::Loopback, "loopback-up");
const LOOPBACK_CHECK: Step = step("loopback", "CHECK", Config::Loopback, "loopback-get");
const LOOPBACK_DEL: Step = step("loopback", "DEL", Config::Loopback, "loopback-down");

/// The ADD that connects a container to the bridge; scenes are set with it, too.
pub const BRIDGE_ADD: Step = step("bridge", "ADD", Config::Bridge, "attach");
const BRIDGE_CHECK: Step = step("bridge", "CHECK", Config::Bridge, "look");
const BRIDGE_DEL: Step = step("bridge", "DEL", Config::Bridge, "detach");

/// The same with masquerade.
pub const MASQUERADE_ADD: Step = step("bridge", "ADD", Config::Masquerade, "attach-masquerade");
const MASQUERADE_CHECK: Step = step("bridge", "CHECK", Config::Masquerade, "look");
const MASQUERADE_DEL: Step = step("bridge", "DEL", Config::Masquerade, "detach-masquerade");
const COLLECT: Step = step("bridge", "GC", Config::Collect, "collect");

const RESERVE: Step = step("host-local", "ADD", Config::Bridge, "reserve");
const LOOK_UP: Step = step("host-local", "CHECK", Config::Bridge, "look-up");
const RELEASE: Step = step("host-local", "DEL", Config::Bridge, "release");

const ONE: Scene = Scene::Bridge { attached: 1, masquerade: false };
const ONE_MASQUERADED: Scene = Scene::Bridge { attached: 1, masquerade: true };
const CROWD: Scene = Scene::Bridge { attached: 1000, masquerade: true };

const MANY: usize = 100;

/// A single call that needs nothing but a loopback.
const LOOPBACK: Case = Case {
    name: "version",
    about: "loopback VERSION: what it takes to start a plugin at all",
    group: Group::Loopback,
    scene: Scene::Bare,
    how: How::Process,
    before: &[],
    timed: step("loopback", "VERSION", Config::Version, "empty"),
    after: &[],
    leaves: Leaves::LoopbackDown,
};

const ADD: Case = Case {
    name: "bridge-add",
    about: "bridge ADD with isGateway and host-local: a container on a bridge",
    group: Group::Bridge,
    scene: ONE,
    timed: BRIDGE_ADD,
    after: &[BRIDGE_DEL],
    leaves: Leaves::Attached,
    ..LOOPBACK
};
const CHECK: Case =
    Case { name: "bridge-check", about: "bridge CHECK", before: &[BRIDGE_ADD], timed: BRIDGE_CHECK, ..ADD };
const DEL: Case = Case {
    name: "bridge-del",
    about: "bridge DEL; the floor removes the link",
    before: &[BRIDGE_ADD],
    timed: BRIDGE_DEL,
    after: &[],
    leaves: Leaves::Detached,
    ..ADD
};

const MASQUERADED_ADD: Case = Case {
    name: "masquerade-add",
    about: "bridge ADD with ipMasq; on the floor an nf_tables transaction besides",
    group: Group::Masquerade,
    scene: ONE_MASQUERADED,
    timed: MASQUERADE_ADD,
    after: &[MASQUERADE_DEL],
    ..ADD
};
const MASQUERADED_CHECK: Case = Case {
    name: "masquerade-check",
    about: "bridge CHECK with ipMasq",
    before: &[MASQUERADE_ADD],
    timed: MASQUERADE_CHECK,
    ..MASQUERADED_ADD
};
const MASQUERADED_DEL: Case = Case {
    name: "masquerade-del",
    about: "bridge DEL with ipMasq",
    before: &[MASQUERADE_ADD],
    timed: MASQUERADE_DEL,
    after: &[],
    leaves: Leaves::Detached,
    ..MASQUERADED_ADD
};

const RESERVE_10: Case = Case {
    name: "host-local-10-add",
    about: "host-local ADD where 10 addresses are reserved; the floor writes a file",
    group: Group::HostLocal,
    scene: Scene::Reservations(10),
    timed: RESERVE,
    after: &[RELEASE],
    leaves: Leaves::Nothing,
    ..LOOPBACK
};
const LOOK_UP_10: Case = Case {
    name: "host-local-10-check",
    about: "host-local CHECK there; the floor reads a file",
    before: &[RESERVE],
    timed: LOOK_UP,
    ..RESERVE_10
};
const RELEASE_10: Case = Case {
    name: "host-local-10-del",
    about: "host-local DEL there; the floor deletes a file",
    before: &[RESERVE],
    timed: RELEASE,
    after: &[],
    ..RESERVE_10
};

/// All cases, in the order of the table.
pub static CASES: [Case; 26] = [
    LOOPBACK,
    Case {
        name: "loopback-add",
        about: "loopback ADD: set lo up and report its addresses",
        timed: LOOPBACK_ADD,
        leaves: Leaves::LoopbackUp,
        ..LOOPBACK
    },
    Case {
        name: "loopback-check",
        about: "loopback CHECK: is lo up?",
        before: &[LOOPBACK_ADD],
        timed: LOOPBACK_CHECK,
        leaves: Leaves::LoopbackUp,
        ..LOOPBACK
    },
    Case {
        name: "loopback-del",
        about: "loopback DEL: set lo down",
        before: &[LOOPBACK_ADD],
        timed: LOOPBACK_DEL,
        ..LOOPBACK
    },
    ADD,
    CHECK,
    DEL,
    Case {
        name: "embedded-add",
        about: "bridge ADD by a runtime with our plugins linked in, libcni's cache included",
        how: How::Resident,
        ..ADD
    },
    Case { name: "embedded-check", about: "bridge CHECK by it", how: How::Resident, ..CHECK },
    Case { name: "embedded-del", about: "bridge DEL by it", how: How::Resident, ..DEL },
    MASQUERADED_ADD,
    MASQUERADED_CHECK,
    MASQUERADED_DEL,
    Case {
        name: "crowd-add",
        about: "the same ADD where 1,000 containers are attached",
        scene: CROWD,
        ..MASQUERADED_ADD
    },
    Case { name: "crowd-del", about: "the same DEL there", scene: CROWD, ..MASQUERADED_DEL },
    RESERVE_10,
    LOOK_UP_10,
    RELEASE_10,
    Case {
        name: "host-local-1000-add",
        about: "the same with 1,000",
        scene: Scene::Reservations(1000),
        ..RESERVE_10
    },
    Case {
        name: "host-local-1000-check",
        about: "the same with 1,000",
        scene: Scene::Reservations(1000),
        ..LOOK_UP_10
    },
    Case {
        name: "host-local-1000-del",
        about: "the same with 1,000",
        scene: Scene::Reservations(1000),
        ..RELEASE_10
    },
    Case {
        name: "host-local-60000-add",
        about: "the same with 60,000",
        scene: Scene::Reservations(60_000),
        ..RESERVE_10
    },
    Case {
        name: "host-local-60000-check",
        about: "the same with 60,000",
        scene: Scene::Reservations(60_000),
        ..LOOK_UP_10
    },
    Case {
        name: "host-local-60000-del",
        about: "the same with 60,000",
        scene: Scene::Reservations(60_000),
        ..RELEASE_10
    },
    Case {
        name: "burst-add",
        about: "bridge ADD with ipMasq for 100 containers at once",
        group: Group::Burst,
        how: How::AtOnce(MANY),
        ..MASQUERADED_ADD
    },
    Case {
        name: "gc-100",
        about: "GC of 100 containers that are gone; of the other, which has no GC, a DEL for each",
        group: Group::Collection,
        how: How::Collect(MANY, MASQUERADE_DEL),
        timed: COLLECT,
        ..MASQUERADED_DEL
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_cases_differ() {
        let names: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn every_step_has_a_job_on_the_floor() {
        let jobs = crate::floor::JOBS;
        for case in &CASES {
            let steps = case.before.iter().chain(case.after).chain([&case.timed]);
            assert!(steps.map(|step| step.floor).all(|job| jobs.contains(&job)), "{}", case.name);
        }
    }

    #[test]
    fn a_group_is_one_stretch_of_the_table() {
        let mut groups: Vec<_> = CASES.iter().map(|case| case.group).collect();
        groups.dedup();
        assert_eq!(groups, Group::ALL);
    }
}
