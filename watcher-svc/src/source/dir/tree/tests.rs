use serde_json::json;

use super::*;

fn tree() -> Tree {
    Tree::new(DirConfig { namespace: "metallb-system".to_owned(), config_map: "config".to_owned() }, BTreeMap::new())
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")
}

fn read(tree: &mut Tree, files: &[(&str, &str)]) -> Vec<String> {
    let found = files.iter().map(|(path, text)| (PathBuf::from(path), Found::Text((*text).to_owned()))).collect();
    tree.read(found, &[], |_| None);
    told(tree)
}

fn told(tree: &mut Tree) -> Vec<String> {
    let name = |change| match change {
        Change::Applied { kind, object, origin } => format!("+{} from {}", ObjectRef::of(kind.as_str(), &object).name, origin.unwrap()),
        Change::Deleted { object, .. } => format!("-{}", object.name),
        Change::Synced => "synced".to_owned(),
        Change::Ignored { object, reason } => format!("{object}: {reason}"),
        Change::Listed { .. } | Change::StatusGone(_) | Change::CountersTouched => unreachable!("a tree says none of them"),
    };
    tree.changes().into_iter().map(name).collect()
}

#[test]
fn objects_come_change_and_go_with_their_files() {
    let mut tree = tree();
    let both = format!("{}---\n{}", service("a"), service("b"));
    assert_eq!(read(&mut tree, &[("x.yaml", &both)]), ["+a from x.yaml, document 1", "+b from x.yaml, document 2", "synced"]);
    assert_eq!(read(&mut tree, &[("x.yaml", &both)]), [""; 0]);
    assert_eq!(read(&mut tree, &[("y.yaml", &both)]), [""; 0], "moved to another file");
    assert_eq!(read(&mut tree, &[("y.yaml", &service("b"))]), ["-a"]);
    assert_eq!(read(&mut tree, &[("y.yaml", &format!("{}spec: {{type: LoadBalancer}}\n", service("b")))]), ["+b from y.yaml, document 1"]);
    assert_eq!(read(&mut tree, &[]), ["-b"]);
}

#[test]
fn what_cannot_be_read_keeps_what_it_last_said() {
    let mut tree = tree();
    read(&mut tree, &[("d/x.yaml", &service("a"))]);
    for bad in ["a: [", "", "kind: Service\n"] {
        assert_eq!(read(&mut tree, &[("d/x.yaml", bad)]), [""; 0], "{bad:?}");
    }
    tree.read([(PathBuf::from("d/x.yaml"), Found::Unreadable("no".to_owned()))].into(), &[], |_| None);
    assert_eq!(told(&mut tree), [""; 0]);
    tree.read(BTreeMap::new(), &["d".into()], |_| None);
    assert_eq!(told(&mut tree), [""; 0], "below a folder that cannot be listed");
    assert_eq!(read(&mut tree, &[("d/x.yaml", "# meant to be empty\n")]), ["-a"], "comments are no accident");
}

#[test]
fn a_file_that_was_good_before_the_start_says_what_it_said_then() {
    let mut tree = tree();
    let files = [(PathBuf::from("x.yaml"), Found::Text("a: [".to_owned())), (PathBuf::from("y.yaml"), Found::Text(service("why")))];
    let keep = tree.read(files.into(), &[], |path| (path == Path::new("x.yaml")).then(|| service("x")));
    assert_eq!(keep, [(PathBuf::from("y.yaml"), Some(service("why")))]);
    assert_eq!(told(&mut tree), ["+why from y.yaml, document 1", "+x from x.yaml, document 1", "synced"]);
    assert_eq!(tree.read(BTreeMap::new(), &[], |_| None), [(PathBuf::from("x.yaml"), None), (PathBuf::from("y.yaml"), None)]);
}

#[test]
fn an_object_twice_counts_once_and_configuration_only_in_its_namespace() {
    let mut tree = tree();
    let map =
        |namespace: &str, name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n");
    let pool =
        |namespace: &str| format!("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: p, namespace: {namespace}}}\n");
    let files = [
        ("a.yaml", service("a")),
        ("b.yaml", service("a")),
        ("c.yaml", map("default", "config")),
        ("d.yaml", map("metallb-system", "other")),
        ("e.yaml", map("metallb-system", "config")),
        ("f.yaml", pool("default")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let ignored = "IPAddressPool default/p: resource must be created in metallb-system namespace: elsewhere it counts for nothing";
    assert_eq!(read(&mut tree, &files), [ignored, "+config from e.yaml, document 1", "+a from a.yaml, document 1", "synced"]);
    assert_eq!(read(&mut tree, &files), [""; 0], "told once");
    assert_eq!(read(&mut tree, &[("b.yaml", &service("a"))]), ["-config"]);
}

#[test]
fn a_status_of_before_the_start_is_adopted_else_the_manifests_own_addresses() {
    let status = json!({"metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "p"}}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    let config = DirConfig { namespace: "metallb-system".to_owned(), config_map: "config".to_owned() };
    let mut tree =
        Tree::new(config, [("default/a".parse().unwrap(), status.clone()), ("default/b".parse().unwrap(), status.clone())].into());
    let own = |name: &str| format!("{}status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.7, ipMode: VIP}}]}}}}\n", service(name));
    let annotated = own("c").replace("name: c", "name: c, annotations: {metallb.io/ip-allocated-from-pool: p, a: b}");
    let found = [("a.yaml", service("a")), ("b.yaml", own("b")), ("c.yaml", annotated)]
        .map(|(path, text)| (PathBuf::from(path), Found::Text(text)));
    tree.read(found.into(), &[], |_| None);
    let changes = tree.changes();
    let Change::Applied { object, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((&object["status"], &object["metadata"]["annotations"]), (&status["status"], &status["metadata"]["annotations"]));
    let Change::Applied { object, .. } = &changes[1] else { panic!("{changes:?}") };
    assert_eq!(object["status"], status["status"], "what was written last");
    let Change::Applied { object, .. } = &changes[2] else { panic!("{changes:?}") };
    assert_eq!(object["status"], json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}), "adopted, and to be written");
    assert_eq!(object["metadata"]["annotations"], json!({"a": "b"}), "to be written too");
    // Deleted and made anew it is another Service.
    read(&mut tree, &[]);
    tree.read([(PathBuf::from("a.yaml"), Found::Text(service("a")))].into(), &[], |_| None);
    let changes = tree.changes();
    let Change::Applied { object, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!(object.get("status"), None);
}
