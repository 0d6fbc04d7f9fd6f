//! `cargo xtask manifests`: renders deploy/manifests from the chart, and checks everything in deploy/ that Kubernetes reads.
//!
//! The chart is linted and rendered with each of several sets of values, and the result is held against the strict schemas of
//! every supported version. Values that cannot be meant must be refused by the chart's own schema. The tools are those of
//! `cargo xtask setup`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

use crate::{cmd::Cmd, repository, setup};

/// Versions of Kubernetes whose schemas are asked.
const VERSIONS: &[&str] = &["1.29", "1.30", "1.31", "1.32", "1.33", "1.34"];
/// The version that the plain manifests are rendered for: the oldest whose fields they have all work in.
const RENDERED_FOR: &str = "1.30.0";
const CHART: &str = "deploy/chart";
const MANIFEST: &str = "deploy/manifests/monitor.yaml";
const MANIFEST_VALUES: &str = "deploy/manifests/values.yaml";
const OVERLAYS: &[&str] = &["deploy/overlays/aks", "deploy/overlays/kind"];
const ALERTS: &str = "deploy/chart/files/alerts.yaml";

/// Values that must render, and whether all that they render is in Kubernetes' own schemas.
const GOOD: &[(&str, &str, bool)] = &[
    ("defaults", "{}", true),
    (
        "everything",
        r#"{"image": {"repository": "r.example.com/m", "digest": "sha256:0123456789012345678901234567890123456789012345678901234567890123"},
            "imagePullSecrets": [{"name": "registry"}], "namespace": {"create": true}, "clusterName": "test", "output": "falco",
            "rules": {"aks": true, "custom": {"mine.yaml": "- list: mine\n  items: [a]\n"}},
            "config": {"sinks": [{"name": "otel", "protocol": "otlp", "endpoint": "https://otel.example.com:4317"}]},
            "bundles": ["/run/containerd", "/run/containers"],
            "networkPolicy": {"enabled": true, "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}]},
            "priorityClassName": "", "nodeSelector": {}, "tolerations": [], "podLabels": {"a": "b"},
            "podAnnotations": {"a": "b"}, "extraArgs": ["--ring-mib=16"], "extraEnv": [{"name": "A", "value": "b"}],
            "extraVolumes": [{"name": "x", "emptyDir": {}}], "extraVolumeMounts": [{"name": "x", "mountPath": "/x"}]}"#,
        true,
    ),
    ("kubernetes", r#"{"kubernetes": {"enabled": true}}"#, true),
    (
        "node-taint",
        r#"{"kubernetes": {"enabled": true, "node": {"enabled": true}}, "networkPolicy": {"enabled": true},
            "imagePullSecrets": [{"name": "registry"}]}"#,
        true,
    ),
    (
        "node-condition",
        r#"{"kubernetes": {"enabled": true, "node": {"enabled": true, "mode": "condition", "failOpenSeconds": 0,
            "admissionPolicy": false, "releaseOnUninstall": false}}}"#,
        true,
    ),
    ("no-account", r#"{"serviceAccount": {"create": false, "name": "other"}, "fullnameOverride": "security"}"#, true),
    (
        "seccomp-profiles",
        r#"{"seccompProfiles": {"enabled": true, "profiles": {"web.json": "{\"defaultAction\": \"SCMP_ACT_ERRNO\"}"}}}"#,
        true,
    ),
    ("seccomp-config-map", r#"{"seccompProfiles": {"enabled": true, "configMap": "profiles"}}"#, true),
    ("seccomp-remove", r#"{"seccompProfiles": {"remove": true}}"#, true),
    (
        "monitoring",
        r#"{"metrics": {"podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}}}"#,
        false,
    ),
];
/// Values that the chart must refuse.
const BAD: &[(&str, &str)] = &[
    ("unknown-key", r#"{"colour": "red"}"#),
    ("port", r#"{"metrics": {"port": 0}}"#),
    ("relative-path", r#"{"bundles": ["run/containerd"]}"#),
    ("digest", r#"{"image": {"digest": "latest"}}"#),
    ("output", r#"{"output": "xml"}"#),
    ("seccomp-nothing", r#"{"seccompProfiles": {"enabled": true}}"#),
    ("seccomp-both", r#"{"seccompProfiles": {"enabled": true, "configMap": "a", "profiles": {"a.json": "{}"}}}"#),
    ("seccomp-name", r#"{"seccompProfiles": {"enabled": true, "profiles": {".a.json": "{}"}}}"#),
    ("node-mode", r#"{"kubernetes": {"node": {"mode": "other"}}}"#),
    ("taint-key", r#"{"kubernetes": {"node": {"taint": "a b"}}}"#),
    ("rules-name", r#"{"rules": {"custom": {"mine.txt": ""}}}"#),
];

/// Options of `cargo xtask manifests`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing: fail if the plain manifests are not what the chart gives
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Some(tools) = Tools::find() else {
        anyhow::bail!("helm, kubectl or kubernetes-validate is missing: run `cargo xtask setup`");
    };
    tools.render_manifest(args.check)?;
    tools.check_all()
}

/// As a step of the tests; it fails where the setup did not bring the tools.
pub(crate) fn test() -> Result<()> {
    run(&Args { check: true })
}

/// What the checks are made with, and where they write.
struct Tools {
    helm: PathBuf,
    kubectl: PathBuf,
    validate: PathBuf,
    directory: PathBuf,
}

impl Tools {
    fn find() -> Option<Self> {
        let tool = |name| Some(setup::python_tool(name)).filter(|path| path.exists());
        let directory = repository::target().join("manifests");
        Some(Self { helm: tool("helm")?, kubectl: tool("kubectl")?, validate: tool("kubernetes-validate")?, directory })
    }

    fn render_manifest(&self, check: bool) -> Result<()> {
        let rendered = self.template("monitor", Path::new(MANIFEST_VALUES), RENDERED_FOR).output()?;
        let text = format!(
            "# The agent on every Linux node, rendered from deploy/chart by `cargo xtask manifests`. Put your image's name in, then:\n\
             # kubectl apply -f {MANIFEST}\n{rendered}\n"
        );
        let path = repository::root().join(MANIFEST);
        if !check {
            return fs::write(&path, text).with_context(|| MANIFEST.to_owned());
        }
        let committed = fs::read_to_string(&path).with_context(|| MANIFEST.to_owned())?;
        ensure!(committed == text, "{MANIFEST} is not what the chart gives: run `cargo xtask manifests`");
        Ok(())
    }

    fn check_all(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        for (name, values, is_plain) in GOOD {
            let values = self.values(name, values)?;
            Cmd::new(&self.helm).args(["lint", "--strict", CHART, "--values"]).arg(&values).output()?;
            for version in VERSIONS {
                let rendered = self.template("try", &values, &format!("{version}.0")).output()?;
                if *is_plain {
                    self.validate(&format!("{name}-{version}"), &rendered, version)?;
                }
            }
        }
        for (name, values) in BAD {
            let refused = self.template("try", &self.values(name, values)?, RENDERED_FOR).probe().is_none();
            ensure!(refused, "the chart takes the values {name}, which cannot be meant");
        }
        for overlay in OVERLAYS {
            let built = Cmd::new(&self.kubectl).args(["kustomize", overlay]).output()?;
            let name = overlay.rsplit('/').next().unwrap_or(overlay);
            for version in VERSIONS.iter().filter(|version| **version != "1.29") {
                self.validate(&format!("overlay-{name}-{version}"), &built, version)?;
            }
        }
        Cmd::new("promtool").args(["check", "rules", ALERTS]).output()?;
        eprintln!(
            "manifests: {} sets of values for Kubernetes {}, {} refused, {} overlays",
            GOOD.len(),
            VERSIONS.join(" "),
            BAD.len(),
            OVERLAYS.len()
        );
        Ok(())
    }

    fn values(&self, name: &str, values: &str) -> Result<PathBuf> {
        let path = self.directory.join(format!("{name}.values.json"));
        fs::create_dir_all(&self.directory)?;
        fs::write(&path, values)?;
        Ok(path)
    }

    fn template(&self, release: &str, values: &Path, version: &str) -> Cmd {
        Cmd::new(&self.helm)
            .args(["template", release, CHART, "--namespace", "monitor", "--kube-version", version, "--values"])
            .arg(values)
    }

    /// Strictly: a key that the version does not know is an error.
    fn validate(&self, name: &str, text: &str, version: &str) -> Result<()> {
        let path = self.directory.join(format!("{name}.yaml"));
        fs::write(&path, text)?;
        let validate = Cmd::new(&self.validate).args(["--strict", "--kubernetes-version", version]).arg(path);
        validate.output().map(drop)
    }
}
