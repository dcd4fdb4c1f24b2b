//! What the ConfigurationStates say of the configuration, and how far that is written (MetalLB behaviour 2.7).

use std::collections::BTreeSet;

use mooring_proto::types::node::NodeName;

use super::pools::Merged;
use crate::k8s::crd::{Component, ConfigurationStatus, Verdict};

/// How far they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
enum Progress {
    /// They say what they are to say.
    #[default]
    Written,
    /// They are to say something else.
    Due,
    /// They are being written.
    Writing,
    /// They are being written, and are to say something else again.
    WritingOld,
    /// They could not be written.
    Failed,
}

/// The ConfigurationStates: one for the controller, and one for each node with a live speaker.
#[derive(Clone, Debug, Default)]
pub struct Verdicts {
    progress: Progress,
    /// The nodes with a live speaker; `None` = not known yet.
    live_nodes: Option<BTreeSet<NodeName>>,
}

impl Verdicts {
    /// They are to be written again, where they differ from what stands there.
    pub fn outdate(&mut self) {
        self.progress = match self.progress {
            Progress::Written | Progress::Due | Progress::Failed => Progress::Due,
            Progress::Writing | Progress::WritingOld => Progress::WritingOld,
        };
    }

    /// These are the nodes with a live speaker. What could not be written before is tried again.
    pub fn live_nodes(&mut self, nodes: BTreeSet<NodeName>) {
        let nodes = Some(nodes);
        if self.live_nodes != nodes || self.progress == Progress::Failed {
            self.live_nodes = nodes;
            self.outdate();
        }
    }

    /// What they are to say, if that is to be written now, and whether these are all. [`Verdicts::ended`] follows.
    pub fn begin(&mut self, merged: &Merged) -> Option<(Vec<ConfigurationStatus>, bool)> {
        if self.progress != Progress::Due {
            return None;
        }
        self.progress = Progress::Writing;
        let verdict = match merged {
            Merged::Good(_) => Verdict::Valid,
            Merged::Bad(flaws) => {
                let messages: Vec<&str> = flaws.iter().map(|flaw| flaw.message.as_str()).collect();
                Verdict::Invalid(messages.join("; "))
            }
            Merged::Missing => Verdict::Unknown("configuration is missing".to_owned()),
        };
        let speakers = self.live_nodes.iter().flatten().map(|node| Component::Speaker(node.clone()));
        let components = std::iter::once(Component::Controller).chain(speakers);
        let all = components.map(|component| ConfigurationStatus { component, verdict: verdict.clone() }).collect();
        Some((all, self.live_nodes.is_some()))
    }

    /// The writing has ended.
    pub fn ended(&mut self, done: bool) {
        self.progress = match self.progress {
            Progress::WritingOld | Progress::Due => Progress::Due,
            Progress::Writing | Progress::Written | Progress::Failed if done => Progress::Written,
            Progress::Writing | Progress::Written | Progress::Failed => Progress::Failed,
        };
    }
}
