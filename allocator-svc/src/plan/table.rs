//! A plan as a table, as `kubectl get` prints one, and a line that sums it up.

use std::io::{self, Write};

use mooring_proto::pb;

/// What stands for nothing.
const NONE: &str = "<none>";

/// How far columns are apart.
const GAP: usize = 3;

const HEADER: [&str; 6] = ["SERVICE", "ADDRESSES", "POOL", "CHANGE", "BECOMES", "WHY"];

/// Writes the changes, if there are any, and the summary.
pub(super) fn write(output: &mut impl Write, changes: &[pb::PlannedChange], summary: &pb::PlanSummary) -> io::Result<()> {
    if !changes.is_empty() {
        let rows: Vec<[String; 6]> = std::iter::once(HEADER.map(str::to_owned)).chain(changes.iter().map(row)).collect();
        let mut widths = [0usize; 6];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}{:GAP$}", ""));
            writeln!(output, "{}", cells.collect::<String>().trim_end())?;
        }
    }
    writeln!(output, "{}", sum(summary))
}

fn row(change: &pb::PlannedChange) -> [String; 6] {
    let service = change.service.as_ref().map(|service| format!("{}/{}", service.namespace, service.name)).unwrap_or_default();
    let or_none = |text: String| if text.is_empty() { NONE.to_owned() } else { text };
    let becomes = match (change.new_addresses.join(","), change.new_pool.as_str()) {
        (addresses, _) if addresses.is_empty() => NONE.to_owned(),
        (addresses, pool) => format!("{addresses} ({pool})"),
    };
    [service, or_none(change.addresses.join(",")), or_none(change.pool.clone()), word(change.kind()).to_owned(), becomes, why(change)]
}

fn word(kind: pb::PlannedChangeKind) -> &'static str {
    match kind {
        pb::PlannedChangeKind::Unspecified => "changed",
        pb::PlannedChangeKind::Renamed => "renamed",
        pb::PlannedChangeKind::Gained => "gained",
        pb::PlannedChangeKind::Moved => "moved",
        pb::PlannedChangeKind::Lost => "lost",
        pb::PlannedChangeKind::Served => "served",
        pb::PlannedChangeKind::Refused => "refused",
        pb::PlannedChangeKind::Unadvertised => "unadvertised",
    }
}

fn why(change: &pb::PlannedChange) -> String {
    let text = |refusal: &Option<pb::Refusal>| refusal.as_ref().map(|refusal| refusal.message.clone());
    let (untenable, refusal) = (text(&change.untenable), text(&change.refusal));
    let refusal = if change.kind() == pb::PlannedChangeKind::Served { refusal.map(|text| format!("waited: {text}")) } else { refusal };
    let silent = change.unadvertised.then(|| "no L2Advertisement is about what it would have".to_owned());
    // The same rule may stand against what it has and against what it asks for.
    let refusal = refusal.filter(|refusal| untenable.as_ref() != Some(refusal));
    untenable.into_iter().chain(refusal).chain(silent).collect::<Vec<_>>().join("; ")
}

fn sum(summary: &pb::PlanSummary) -> String {
    let counts = [
        (summary.renamed, "renamed"),
        (summary.gained, "gained"),
        (summary.moved, "moved"),
        (summary.lost, "lost"),
        (summary.served, "served"),
        (summary.refused, "refused"),
        (summary.unadvertised, "unadvertised"),
    ];
    let changed = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect::<String>();
    format!("{} unchanged{changed}, {} still waiting", summary.unchanged, summary.waiting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, kind: pb::PlannedChangeKind, before: &[&str], after: &[&str]) -> pb::PlannedChange {
        let list = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let pool = |addresses: &[&str], pool: &str| if addresses.is_empty() { String::new() } else { pool.to_owned() };
        pb::PlannedChange {
            service: Some(pb::ServiceRef { namespace: "default".to_owned(), name: name.to_owned() }),
            kind: kind.into(),
            addresses: list(before),
            pool: pool(before, "a"),
            new_addresses: list(after),
            new_pool: pool(after, "b"),
            ..pb::PlannedChange::default()
        }
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let refusal = |message: &str| Some(pb::Refusal { reason: String::new(), message: message.to_owned() });
        let changes = [
            pb::PlannedChange {
                untenable: refusal("not allowed"),
                ..change("web", pb::PlannedChangeKind::Moved, &["10.0.0.1", "fc00::1"], &["10.0.1.1"])
            },
            pb::PlannedChange {
                untenable: refusal("gone"),
                refusal: refusal("full"),
                ..change("longer-name", pb::PlannedChangeKind::Lost, &["10.0.0.2"], &[])
            },
            pb::PlannedChange { refusal: refusal("full"), ..change("x", pb::PlannedChangeKind::Served, &[], &["10.0.1.2"]) },
            pb::PlannedChange { unadvertised: true, ..change("y", pb::PlannedChangeKind::Unadvertised, &["10.0.0.3"], &["10.0.0.3"]) },
            change("z", pb::PlannedChangeKind::Renamed, &["10.0.0.4"], &["10.0.0.4"]),
        ];
        let summary =
            pb::PlanSummary { unchanged: 7, moved: 1, lost: 1, served: 1, unadvertised: 1, renamed: 1, waiting: 2, ..Default::default() };
        let mut written = Vec::new();
        write(&mut written, &changes, &summary).unwrap();
        let wanted = "\
SERVICE               ADDRESSES          POOL     CHANGE         BECOMES        WHY
default/web           10.0.0.1,fc00::1   a        moved          10.0.1.1 (b)   not allowed
default/longer-name   10.0.0.2           a        lost           <none>         gone; full
default/x             <none>             <none>   served         10.0.1.2 (b)   waited: full
default/y             10.0.0.3           a        unadvertised   10.0.0.3 (b)   no L2Advertisement is about what it would have
default/z             10.0.0.4           a        renamed        10.0.0.4 (b)
7 unchanged, 1 renamed, 1 moved, 1 lost, 1 served, 1 unadvertised, 2 still waiting
";
        assert_eq!(String::from_utf8(written).unwrap(), wanted);
    }

    #[test]
    fn where_nothing_changes_one_line_says_so() {
        let mut written = Vec::new();
        write(&mut written, &[], &pb::PlanSummary { unchanged: 3, ..Default::default() }).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), "3 unchanged, 0 still waiting\n");
    }
}
