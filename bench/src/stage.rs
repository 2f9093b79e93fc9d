//! Where one subject plays its cases: a host of its own with all that a scene needs, and how each call is made there.

use std::ffi::OsStr;
use std::fs;
use std::time::Duration;

use crate::Result;
use crate::call::{Answer, at_once};
use crate::case::{Case, Config, How, Leaves, Scene, Step, Subject};
use crate::cases::{BRIDGE_ADD, MASQUERADE_ADD};
use crate::floor::IFNAME;
use crate::resident::Resident;
use crate::sandbox::{Container, Node, Sandbox};
use crate::trace::{Footprint, watched};

/// A subject at work.
pub struct Stage<'a> {
    subject: &'a Subject,
    node: Node,
    resident: Option<Resident>,
}

/// What a timed call, or a hundred of them, has cost.
#[derive(Debug)]
pub struct Sample {
    /// Wall-clock time of all of it.
    pub elapsed: Duration,
    /// CPU time of all of it.
    pub cpu: Duration,
    /// The wall-clock time of each call, where they were made at once.
    pub each: Vec<Duration>,
}

impl<'a> Stage<'a> {
    /// Makes a host with all that the `cases`, which have the same scene, start from.
    ///
    /// # Errors
    ///
    /// If that fails, or the subject's plugins do.
    pub fn set(subject: &'a Subject, cases: &[&Case], sandbox: &Sandbox, name: &str) -> Result<Stage<'a>> {
        let scene = cases.first().ok_or("there is nothing to measure")?.scene;
        let most = cases.iter().map(|case| case.how.containers()).max().unwrap_or(1);
        let node = sandbox.node(name, scene.attached() + most)?;
        let mut stage = Stage { subject, node, resident: None };
        match scene {
            Scene::Bare => {}
            Scene::Bridge { attached, masquerade } => stage.build_bridge(attached, masquerade)?,
            Scene::Reservations(count) => stage.reserve(count)?,
        }
        if let Some(case) = cases.iter().find(|case| matches!(case.how, How::Resident)) {
            stage.resident = stage.start_resident(case.timed.config)?;
        }
        Ok(stage)
    }

    /// Makes the timed call of a case, from the same start to the same end.
    ///
    /// # Errors
    ///
    /// If a call has failed, or has not done what it says.
    pub fn time(&mut self, case: &Case) -> Result<Sample> {
        let mut previous = self.prepare(case)?;
        let sample = match (case.how, self.subject) {
            (How::AtOnce(_), _) => self.time_at_once(case, &mut previous)?,
            (How::Collect(_, instead), Subject::Other(_)) => self.time_in_turn(&instead, &previous)?,
            _ => {
                let answer = self.perform(case, &case.timed, 0, &mut previous)?;
                Sample { elapsed: answer.elapsed, cpu: answer.cpu, each: Vec::new() }
            }
        };
        self.verify(case)?;
        self.clean_up(case, &mut previous)?;
        Ok(sample)
    }

    /// Ends the program that stays, if there is one: [`watch`](Stage::watch) can have no other children about.
    pub fn dismiss(&mut self) {
        self.resident = None;
    }

    /// Makes the timed call of a case once more and watches it. None where it is not one process.
    ///
    /// # Errors
    ///
    /// As for [`time`](Stage::time).
    pub fn watch(&mut self, case: &Case) -> Result<Option<Footprint>> {
        match (case.how, self.subject) {
            (How::AtOnce(_) | How::Resident, _) | (How::Collect(..), Subject::Other(_)) => return Ok(None),
            _ => {}
        }
        let mut previous = self.prepare(case)?;
        let (node, container) = (&self.node, &self.containers(case)[0]);
        let footprint = watched(&self.subject.call(&case.timed, node, container, &previous[0]))?;
        self.clean_up(case, &mut previous)?;
        Ok(Some(footprint))
    }

    fn containers(&self, case: &Case) -> &[Container] {
        let first = case.scene.attached();
        &self.node.containers[first..first + case.how.containers()]
    }

    /// Enters the host and makes the calls that come before. Returns the results that they have left.
    fn prepare(&mut self, case: &Case) -> Result<Vec<Vec<u8>>> {
        self.node.enter()?;
        let count = case.how.containers();
        if case.scene == Scene::Bare {
            self.containers(case)[0].renew()?;
        }
        let mut previous = vec![Vec::new(); count];
        for step in case.before {
            self.perform_all(case, step, &mut previous)?;
        }
        Ok(previous)
    }

    fn clean_up(&mut self, case: &Case, previous: &mut [Vec<u8>]) -> Result<()> {
        case.after.iter().try_for_each(|step| self.perform_all(case, step, previous))
    }

    fn perform_all(&mut self, case: &Case, step: &Step, previous: &mut [Vec<u8>]) -> Result<()> {
        (0..previous.len()).try_for_each(|index| self.perform(case, step, index, previous).map(|_| ()))
    }

    /// One call for one container; the reply of ADD is kept.
    fn perform(
        &mut self,
        case: &Case,
        step: &Step,
        index: usize,
        previous: &mut [Vec<u8>],
    ) -> Result<Answer> {
        let container = &self.node.containers[case.scene.attached() + index];
        if let (How::Resident, Some(resident)) = (case.how, &mut self.resident) {
            let job = if matches!(self.subject, Subject::Floor(_)) { step.floor } else { step.command };
            let (elapsed, cpu) = resident.perform(job, container.id(), container.path())?;
            return Ok(Answer { elapsed, cpu, reply: Vec::new() });
        }
        let mut answer = self.subject.call(step, &self.node, container, &previous[index]).timed()?;
        self.must_have_answered(step, &answer.reply)?;
        if step.command == "ADD" {
            previous[index] = std::mem::take(&mut answer.reply);
        }
        Ok(answer)
    }

    fn time_at_once(&self, case: &Case, previous: &mut [Vec<u8>]) -> Result<Sample> {
        let containers = self.containers(case).iter().zip(previous.iter());
        let calls: Vec<_> = containers
            .map(|(container, previous)| self.subject.call(&case.timed, &self.node, container, previous))
            .collect();
        let (elapsed, answers) = at_once(&calls)?;
        for (answer, previous) in answers.iter().zip(previous) {
            self.must_have_answered(&case.timed, &answer.reply)?;
            previous.clone_from(&answer.reply);
        }
        let cpu = answers.iter().map(|answer| answer.cpu).sum();
        Ok(Sample { elapsed, cpu, each: answers.iter().map(|answer| answer.elapsed).collect() })
    }

    fn time_in_turn(&self, step: &Step, previous: &[Vec<u8>]) -> Result<Sample> {
        let first = self.node.containers.len() - previous.len();
        let mut cpu = Duration::ZERO;
        let mut elapsed = Duration::ZERO;
        for (container, previous) in self.node.containers[first..].iter().zip(previous) {
            let answer = self.subject.call(step, &self.node, container, previous).timed()?;
            cpu += answer.cpu;
            elapsed += answer.elapsed;
        }
        Ok(Sample { elapsed, cpu, each: Vec::new() })
    }

    /// Whether the call, which has succeeded, has done what it says.
    fn verify(&self, case: &Case) -> Result<()> {
        let wrong = |what: &str| {
            let program = self.subject.program(&case.timed);
            Err(format!("{} {}: it has succeeded, but {what}", program.display(), case.timed.command).into())
        };
        for container in self.containers(case) {
            match case.leaves {
                Leaves::LoopbackUp if !container.loopback_is_up()? => return wrong("lo is not up"),
                Leaves::LoopbackDown if container.loopback_is_up()? => return wrong("lo is not down"),
                Leaves::Attached if container.is_up(IFNAME)? != Some(true) => {
                    return wrong("there is no interface that is up");
                }
                Leaves::Detached if container.is_up(IFNAME)?.is_some() => {
                    return wrong("the interface is still there");
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn must_have_answered(&self, step: &Step, reply: &[u8]) -> Result<()> {
        let answers = matches!(step.command, "VERSION" | "ADD");
        let is_plugin = !matches!(self.subject, Subject::Floor(_));
        if answers && is_plugin && !reply.trim_ascii_start().starts_with(b"{") {
            let program = self.subject.program(step);
            return Err(format!("{} {}: the reply is no JSON object", program.display(), step.command).into());
        }
        Ok(())
    }

    fn build_bridge(&mut self, attached: u16, masquerade: bool) -> Result<()> {
        self.node.enter()?;
        let add = if masquerade { MASQUERADE_ADD } else { BRIDGE_ADD };
        if let Subject::Floor(_) = self.subject {
            let jobs: &[&'static str] = if masquerade { &["bridge", "masquerade"] } else { &["bridge"] };
            for floor in jobs {
                let step = Step { floor, ..add };
                self.subject.call(&step, &self.node, &self.node.containers[0], b"").timed()?;
            }
        }
        for container in &self.node.containers[..usize::from(attached)] {
            self.subject.call(&add, &self.node, container, b"").timed()?;
        }
        Ok(())
    }

    /// Writes the files of `count` reservations, as host-local leaves them, from the start of the range.
    fn reserve(&self, count: u16) -> Result<()> {
        let folder = self.node.state().join("pods");
        fs::create_dir_all(&folder)?;
        let mut address = String::new();
        for number in 2..count + 2 {
            let [high, low] = number.to_be_bytes();
            address = format!("10.1.{high}.{low}");
            fs::write(folder.join(&address), format!("{:064x}\r\n{IFNAME}", u32::from(number) + 0x10000))?;
        }
        Ok(fs::write(folder.join("last_reserved_ip.0"), address)?)
    }

    /// The program that stays, where there is one.
    fn start_resident(&self, config: Config) -> Result<Option<Resident>> {
        self.node.enter()?;
        match self.subject {
            Subject::Floor(program) => Resident::start(program, &[OsStr::new("serve")]).map(Some),
            Subject::Ours { runtime, .. } => {
                let list = config.list(&self.node);
                let cache = self.node.state().join("libcni");
                Resident::start(runtime, &[list.as_ref(), cache.as_os_str()]).map(Some)
            }
            Subject::Other(_) => Ok(None),
        }
    }
}
