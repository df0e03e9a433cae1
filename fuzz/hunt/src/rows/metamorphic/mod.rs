//! Row 10: one list of operations under many settings gives the same answers, and one setting gives the same trace twice.
//!
//! One case is one list, played on some seventy databases: with fixed options and drawn ones, with flushes, compactions and ends of the
//! process put in or left out, on the simulated disk and on files. Answers are hashed line by line. A list that shows a difference
//! is reduced before it is reported.

mod list;
mod play;
mod reduce;
mod setting;
mod twice;

use crate::drive::{Case, Chance, Failure, Row, Tally};
use list::{Step, make_list};
use play::{Outcome, Watch, play};
use reduce::reduce;
use setting::{Body, Setting};
use treering_lsm::{Environment, IoChoice};

pub(super) const ROW: Row = Row {
    number: 10,
    name: "metamorphic",
    promise: "answers depend on no option, on no work behind the scenes and on no end of the process; traces repeat",
    unit: "databases",
    ci_cases: 2,
    nightly: 65_000,
    parallel: true,
    run,
};

/// Drawn settings, beside the fixed ones.
const DRAWN: usize = 32;
/// Reduced lists up to this length are printed.
const PRINTED_MAX: usize = 30;
/// Bytes of an answer that are printed.
const ANSWER_MAX: usize = 300;

fn run(seed: u64, tally: &mut Tally) -> Result<Case, Failure> {
    let mut chance = Chance::new(seed);
    let list = make_list(&mut chance);
    let mut settings = setting::fixed();
    settings.extend((0..DRAWN).map(|_| setting::draw(&mut chance)));
    let first = &settings[0];
    let expected = play(&list, first, Watch::default())
        .map_err(|failure| format!("under {first:?}: {failure}"))?;
    tally.checked(1);
    for setting in settings[1..].iter().filter(|setting| is_due(setting, seed)) {
        if !is_possible(setting) {
            tally.note("refused_by_the_machine", 1);
            continue;
        }
        let outcome = play(&list, setting, Watch::default());
        if outcome.as_ref().map_or(true, |outcome| outcome.lines != expected.lines) {
            return Err(report(&list, first, setting));
        }
        let outcome = outcome?;
        tally.checked(1);
        tally.note("operations", list.len() as u64);
        let differently = outcome.behaviour != expected.behaviour;
        tally.fired("worked_differently", u64::from(differently));
        tally.note("lives", outcome.traces.len() as u64);
        tally.note("databases_on_files", u64::from(matches!(setting.body, Body::Files(_))));
        tally.note("databases_with_threads", u64::from(!setting.is_deterministic()));
    }
    twice::check(&list, &settings, &mut chance, tally)?;
    Ok(Case::Done)
}

/// Real files are slow: each case takes one of the bodies.
fn is_due(setting: &Setting, seed: u64) -> bool {
    match setting.body {
        Body::Files(IoChoice::Posix) => seed.is_multiple_of(2),
        Body::Files(_) => !seed.is_multiple_of(2),
        Body::Sim | Body::SimThreads => true,
    }
}

/// False for a setting whose I/O the machine refuses.
fn is_possible(setting: &Setting) -> bool {
    match setting.body {
        Body::Files(choice) => Environment::system(choice).is_ok(),
        Body::Sim | Body::SimThreads => true,
    }
}

/// Where two settings disagree about a list, if they do.
fn disagreement(list: &[Step], a: &Setting, b: &Setting) -> Option<String> {
    let both = [a, b].map(|setting| play(list, setting, Watch::default()));
    let [Ok(left), Ok(right)] = both else {
        let why = both.into_iter().filter_map(Result::err).collect::<Vec<_>>();
        return Some(why.join("; "));
    };
    let line = first_difference(&left, &right)?;
    let answer = |setting: &Setting| {
        let watch = Watch { line: Some(line), ..Watch::default() };
        let mut text = play(list, setting, watch).ok()?.watched?;
        text.truncate(ANSWER_MAX);
        Some(text)
    };
    let operation = &list[line].operation;
    Some(format!("line {line} ({operation}): {:?} and {:?}", answer(a), answer(b)))
}

fn first_difference(a: &Outcome, b: &Outcome) -> Option<usize> {
    a.lines.iter().zip(&b.lines).position(|(left, right)| left != right)
}

/// Says what differs, under which settings, and after which reduced list.
fn report(list: &[Step], a: &Setting, b: &Setting) -> Failure {
    let Some(found) = disagreement(list, a, b) else {
        return format!(
            "{:?} once answered not as {:?} did, but not again: it is a matter of threads\n{b:?}",
            b.name, a.name
        );
    };
    let reduced = reduce(list.to_vec(), |list| disagreement(list, a, b).is_some());
    let left = disagreement(&reduced, a, b).unwrap_or_default();
    let mut text = format!(
        "{:?} and {:?} differ at {found}\nreduced from {} operations to {}: {left}\n",
        a.name,
        b.name,
        list.len(),
        reduced.len()
    );
    if reduced.len() < PRINTED_MAX {
        for Step { id, operation } in &reduced {
            text.push_str(&format!("  {id}: {operation}\n"));
        }
    }
    text + &format!("{a:?}\n{b:?}")
}

#[cfg(test)]
mod tests {
    use super::setting::End;
    use super::*;
    use treering_lsm::Durability;

    #[test]
    fn a_setting_that_loses_writes_is_told_and_the_list_reduced() {
        let list = make_list(&mut Chance::new(3));
        let honest = setting::fixed().swap_remove(0);
        let mut losing = honest.clone();
        losing.options.durability = Durability::None;
        losing.ends = vec![End::Kill];
        let text = report(&list, &honest, &losing);
        assert!(text.contains("differ at line") && text.contains("put"), "{text}");
    }

    #[test]
    fn fixed_settings_have_names_of_their_own() {
        let settings = setting::fixed();
        let mut names: Vec<&str> = settings.iter().map(|setting| &setting.name[..]).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == settings.len() && names.len() >= 30);
    }
}
