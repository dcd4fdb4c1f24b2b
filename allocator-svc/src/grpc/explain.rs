//! Explanations as messages.

use mooring_proto::convert;
use mooring_proto::pb;
use mooring_proto::types::address::Vip;
use mooring_proto::types::service::ServiceKey;

use super::refusal_to_pb;
use crate::core::explain::{Explanation, Part, PoolTrial, Said, SpeakerTrial, Trial, VipTrial};

/// The answer about a Service.
pub(super) fn response(service: &ServiceKey, explanation: Explanation) -> pb::ExplainResponse {
    pb::ExplainResponse {
        service: Some(convert::service_ref(service)),
        claim: explanation.claim.as_ref().map(Into::into),
        rules: explanation.trials.into_iter().map(rule).collect(),
        decided_by: explanation.decided_by.to_owned(),
        lease: explanation.lease.as_ref().map(Into::into),
        refusal: explanation.refusal.as_ref().map(refusal_to_pb),
        vips: explanation.vips.into_iter().map(vip).collect(),
    }
}

fn rule(trial: Trial) -> pb::RuleTrial {
    let Trial { rule, asked, said, pools, pools_left_out } = trial;
    let told = pb::RuleTrial {
        rule: rule.to_owned(),
        asked,
        pools: pools.into_iter().map(pool).collect(),
        pools_left_out: u32::try_from(pools_left_out).unwrap_or(u32::MAX),
        ..pb::RuleTrial::default()
    };
    match said {
        Said::Passes(reason) => pb::RuleTrial { verdict: pb::RuleVerdict::Passes.into(), reason, ..told },
        Said::Grants(grant, reason) => pb::RuleTrial {
            verdict: pb::RuleVerdict::Grants.into(),
            reason,
            addresses: texts(&grant.addresses),
            pool: grant.pool.to_string(),
            ..told
        },
        Said::Refuses(refusal) => pb::RuleTrial { verdict: pb::RuleVerdict::Refuses.into(), reason: refusal.to_string(), ..told },
    }
}

fn pool(trial: PoolTrial) -> pb::PoolTrial {
    pb::PoolTrial { pool: trial.pool.to_string(), taken: trial.taken, reason: trial.reason, offers: texts(&trial.offers) }
}

fn vip(trial: VipTrial) -> pb::VipTrial {
    pb::VipTrial {
        vip: trial.vip.to_string(),
        services: trial.services.iter().map(convert::service_ref).collect(),
        reason: trial.reason,
        advertisements: trial.advertisements,
        speakers: trial.speakers.into_iter().map(speaker).collect(),
    }
}

fn speaker(trial: SpeakerTrial) -> pb::SpeakerTrial {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let part = match trial.part {
        None => pb::AnnouncementPart::Unspecified,
        Some(Part::Active) => pb::AnnouncementPart::Active,
        Some(Part::Standby) => pb::AnnouncementPart::Standby,
        Some(Part::Outgoing) => pb::AnnouncementPart::Outgoing,
    };
    let told = pb::SpeakerTrial {
        node: trial.id.node.to_string(),
        instance: trial.id.instance.to_string(),
        active: count(trial.active_on),
        standby: count(trial.standby_on),
        part: part.into(),
        ..pb::SpeakerTrial::default()
    };
    match trial.worth {
        Ok(worth) => pb::SpeakerTrial {
            eligible: true,
            score: worth.score,
            interfaces: worth.interfaces.iter().map(ToString::to_string).collect(),
            place: count(worth.place.unwrap_or_default()),
            reason: worth.drained.map(|why| format!("{why}, and comes after all others")).unwrap_or_default(),
            ..told
        },
        Err(reason) => pb::SpeakerTrial { reason, ..told },
    }
}

fn texts(vips: &[Vip]) -> Vec<String> {
    vips.iter().map(ToString::to_string).collect()
}
