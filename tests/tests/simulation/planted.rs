//! Every planted bug of replication is found: among random lives of a cluster that has it, one breaks an invariant. The same lives without
//! it break none, as the simulation's own test shows. Bugs that need a rare
//! sequence are caught by a script instead.

use tidelog_replication::{Flaw, Flaws};
use tidelog_tests::simulation::invariants::{Invariant, Violation};
use tidelog_tests::simulation::schedule::{live, settings};
use tidelog_tests::simulation::settings::{Settings, ShellFlaw};

/// Lives that a bug may go unnoticed.
const PATIENCE: u64 = 6_000;

/// The first life of a cluster with the bug that breaks something.
#[track_caller]
fn found(name: &str, plant: impl Fn(Settings) -> Settings) -> Violation {
    for seed in 1..=PATIENCE {
        if let Some(violation) = live(seed, plant(settings(seed))).violation {
            println!("{name}: seed {seed} breaks {:?}: {}", violation.invariant, violation.evidence);
            return violation;
        }
    }
    panic!("{name} went unnoticed through {PATIENCE} lives");
}

fn found_flaw(flaw: Flaw) -> Violation {
    found(&format!("{flaw:?}"), |settings| Settings { flaws: Flaws::planted(flaw), ..settings })
}

fn found_around(flaw: ShellFlaw) -> Violation {
    found(&format!("{flaw:?}"), |settings| Settings { shell_flaw: Some(flaw), ..settings })
}

/// What is lost or differs: a reader or a producer would notice.
fn is_loss(violation: &Violation) -> bool {
    violation.invariant != Invariant::EventuallyAvailable
}

macro_rules! caught {
    ($($name:ident: $flaw:expr;)*) => {
        $(#[test]
        fn $name() {
            let violation = found_flaw($flaw);
            assert!(is_loss(&violation), "{violation:?}");
        })*
    };
}

caught! {
    truncating_to_the_watermark_is_caught: Flaw::TruncateToWatermark;
    trusting_the_same_leader_anew_is_caught: Flaw::SameLeaderTrusted;
    acknowledging_before_the_flush_is_caught: Flaw::AckBeforeFlush;
    retrying_a_failed_flush_is_caught: Flaw::FailedFlushRetried;
    forgetting_a_paused_follower_is_caught: Flaw::PausedFollowerForgotten;
    forgetting_a_pending_expansion_is_caught: Flaw::PendingExpansionForgotten;
    expanding_below_the_epoch_start_is_caught: Flaw::ExpandBelowEpochStart;
    ignoring_the_minimum_in_sync_is_caught: Flaw::MinInSyncIgnored;
    forgetting_producers_with_each_leader_is_caught: Flaw::ProducersForgotten;
    accepting_a_fenced_producer_is_caught: Flaw::FencedProducerAccepted;
    accepting_a_gap_of_a_producer_is_caught: Flaw::ProducerGapAccepted;
}

/// What whoever reads what is committed would notice.
fn is_seen_in_transactions(violation: &Violation) -> bool {
    matches!(
        violation.invariant,
        Invariant::NothingReadAboveStableOffset | Invariant::TransactionAllOrNothing | Invariant::NoHangingTransaction
    )
}

macro_rules! caught_in_transactions {
    ($($name:ident: $find:expr;)*) => {
        $(#[test]
        fn $name() {
            let violation = $find;
            assert!(is_seen_in_transactions(&violation), "{violation:?}");
        })*
    };
}

caught_in_transactions! {
    a_marker_that_ends_a_later_transaction_is_caught: found_flaw(Flaw::MarkerEndsLaterTransaction);
    counting_a_marker_before_it_is_settled_is_caught: found_flaw(Flaw::UnsettledMarkersCount);
    taking_a_transaction_without_asking_its_coordinator_is_caught: found_flaw(Flaw::MembershipUnasked);
    believing_a_word_that_a_marker_has_overtaken_is_caught: found_around(ShellFlaw::WordNotJudgedAnew);
}

/// A replica that kept what its leader does not have either shows it, or never joins again: nothing that is pushed continues its log.
#[test]
fn stopping_the_search_at_the_first_answer_is_caught() {
    found_flaw(Flaw::AskOnce);
}

/// A leader takes for a duplicate what was cut, and acknowledges what is not there.
#[test]
fn keeping_what_was_known_of_producers_across_a_cut_is_caught() {
    assert!(is_loss(&found_around(ShellFlaw::ProducersOutliveCut)));
}

#[test]
fn acknowledging_a_duplicate_before_it_is_kept_is_caught() {
    assert!(is_loss(&found_around(ShellFlaw::DuplicateAckedAtOnce)));
}

#[test]
fn electing_a_replica_that_is_not_eligible_is_caught() {
    assert!(is_loss(&found_around(ShellFlaw::AnyReplicaElected)));
}

#[test]
fn taking_an_older_copy_of_a_folder_for_the_newest_is_caught() {
    assert!(is_loss(&found_around(ShellFlaw::OlderCopyBelieved)));
}

#[test]
fn believing_metadata_of_an_earlier_life_is_caught() {
    assert!(is_loss(&found_around(ShellFlaw::OldMetadataBelieved)));
}
