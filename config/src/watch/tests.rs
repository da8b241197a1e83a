//! Changes of real files, in the ways that editors, deployments and Kubernetes make them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;

use super::*;

/// Longer than any change should take to be noticed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    directory: tempfile::TempDir,
    calls: mpsc::Receiver<()>,
    _watch: Watch,
}

impl Watched {
    /// Prepares a directory and watches some paths in it.
    fn new(paths: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let (sender, calls) = mpsc::channel();
        let watch = Watch::start(move |_| sender.send(()).unwrap_or(())).unwrap();
        watch.watch(paths.iter().map(|path| directory.path().join(path)));
        let watched = Self {
            directory,
            calls,
            _watch: watch,
        };
        // The first call says that the paths are watched.
        watched.called("at first");
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn called(&self, why: &str) {
        let called = self.calls.recv_timeout(PATIENCE);
        assert!(called.is_ok(), "nobody was called: {why}");
    }

    /// Makes a change and waits for the call. A change in two steps may be two.
    fn check(&self, why: &str, change: impl FnOnce(&Path)) {
        while self.calls.try_recv().is_ok() {}
        change(self.directory.path());
        self.called(why);
    }
}

#[test]
fn a_file_is_written_in_place() {
    let watched = Watched::new(&["c.yaml"], |dir| {
        fs::write(dir.join("c.yaml"), "1").unwrap()
    });
    watched.check("written", |dir| fs::write(dir.join("c.yaml"), "2").unwrap());
    watched.check("written again", |dir| {
        fs::write(dir.join("c.yaml"), "3").unwrap()
    });
}

#[test]
fn an_editor_renames_on_save() {
    let watched = Watched::new(&["c.yaml"], |dir| {
        fs::write(dir.join("c.yaml"), "1").unwrap()
    });
    for text in ["2", "3"] {
        watched.check("renamed", |dir| {
            fs::write(dir.join(".c.yaml.swp"), text).unwrap();
            fs::rename(dir.join(".c.yaml.swp"), dir.join("c.yaml")).unwrap();
        });
    }
    watched.check("moved away and written anew", |dir| {
        fs::rename(dir.join("c.yaml"), dir.join("c.yaml~")).unwrap();
        fs::write(dir.join("c.yaml"), "4").unwrap();
    });
}

/// What the kubelet does: files are links into `..data`, which is a link to a directory of one
/// generation; a new generation is put beside it, and the link is replaced.
fn publish(dir: &Path, generation: &str, text: &str) {
    fs::create_dir(dir.join(generation)).unwrap();
    fs::write(dir.join(generation).join("c.yaml"), text).unwrap();
    symlink(generation, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn a_config_map_is_swapped() {
    let watched = Watched::new(&["c.yaml"], |dir| {
        publish(dir, "..1", "1");
        symlink("..data/c.yaml", dir.join("c.yaml")).unwrap();
    });
    watched.check("swapped", |dir| publish(dir, "..2", "2"));
    fs::remove_dir_all(watched.path("..1")).unwrap();
    watched.check("swapped again", |dir| publish(dir, "..3", "3"));
    watched.check("the new file is written", |dir| {
        fs::write(dir.join("..3/c.yaml"), "4").unwrap();
    });
}

#[test]
fn a_release_is_switched() {
    let watched = Watched::new(&["current/etc/c.yaml"], |dir| {
        for release in ["1", "2"] {
            let etc = dir.join("releases").join(release).join("etc");
            fs::create_dir_all(&etc).unwrap();
            fs::write(etc.join("c.yaml"), release).unwrap();
        }
        symlink("releases/1", dir.join("current")).unwrap();
    });
    watched.check("switched", |dir| {
        symlink("releases/2", dir.join("next")).unwrap();
        fs::rename(dir.join("next"), dir.join("current")).unwrap();
    });
    watched.check("the file of the new release is written", |dir| {
        fs::write(dir.join("releases/2/etc/c.yaml"), "3").unwrap();
    });
}

#[test]
fn files_appear_where_a_pattern_looks() {
    let watched = Watched::new(&["domains"], |dir| {
        fs::create_dir(dir.join("domains")).unwrap()
    });
    watched.check("one more", |dir| {
        fs::write(dir.join("domains/a.yaml"), "").unwrap()
    });
    watched.check("one less", |dir| {
        fs::remove_file(dir.join("domains/a.yaml")).unwrap()
    });
}

#[test]
fn a_directory_appears_and_is_replaced() {
    let watched = Watched::new(&["certs/a/site.pem"], |_| {});
    watched.check("it appears", |dir| {
        fs::create_dir_all(dir.join("certs/a")).unwrap();
        fs::write(dir.join("certs/a/site.pem"), "1").unwrap();
    });
    watched.check("it is replaced", |dir| {
        fs::rename(dir.join("certs/a"), dir.join("old")).unwrap();
        fs::create_dir_all(dir.join("certs/a")).unwrap();
        fs::write(dir.join("certs/a/site.pem"), "2").unwrap();
    });
    watched.check("its file is written", |dir| {
        fs::write(dir.join("certs/a/site.pem"), "3").unwrap();
    });
}

#[test]
fn other_files_are_watched_from_now_on() {
    let watched = Watched::new(&["a"], |dir| fs::create_dir(dir.join("elsewhere")).unwrap());
    let other = watched.path("elsewhere/b");
    watched._watch.watch([other.clone()]);
    watched.called("the files are others");
    watched.check("written", |_| fs::write(other, "1").unwrap());
}

#[test]
fn polling_finds_what_nobody_tells() {
    let directory = tempfile::tempdir().unwrap();
    let (above, before) = (directory.path().join("a"), directory.path().join("before"));
    let write = |text: &str| {
        fs::create_dir_all(above.join("b")).unwrap();
        fs::write(above.join("b/c.yaml"), text).unwrap();
    };
    write("1");
    let (sender, calls) = mpsc::channel();
    let watch = Watch::polling(Duration::from_millis(20), move |_| {
        sender.send(()).unwrap_or(())
    })
    .unwrap();
    watch.watch([above.join("b/c.yaml")]);
    let count = || calls.recv_timeout(PATIENCE).is_ok();
    assert!(count(), "at first");
    // Nothing happens in the directory that holds the file: one further up is exchanged.
    fs::rename(&above, before).unwrap();
    write("2");
    assert!(count(), "another file is there");
    // What stays the same is no change, however often it is looked at.
    let is_quiet = |_| calls.recv_timeout(Duration::from_millis(200)).is_err();
    assert!((0..20).any(is_quiet));
}

#[test]
fn a_watch_may_be_changed_and_dropped_while_it_calls() {
    let slot: Arc<Mutex<Option<Watch>>> = Arc::default();
    let (sender, calls) = mpsc::channel();
    let inside = Arc::clone(&slot);
    let mut count = 0;
    let watch = Watch::polling(Duration::from_millis(5), move |_| {
        count += 1;
        let mut watch = lock(&inside);
        if let Some(watch) = &*watch {
            // More often than hints fit in the queue.
            for number in 0..100 {
                watch.watch([PathBuf::from(format!("/no/such/{count}/{number}"))]);
            }
        }
        if count == 3 {
            *watch = None;
        }
        let _ = sender.send(count);
    });
    let mut held = lock(&slot);
    let watch = held.insert(watch.unwrap());
    watch.watch([PathBuf::from("/no/such")]);
    drop(held);
    let counts: Vec<i32> = calls.iter().collect();
    assert!(counts.len() >= 3, "the thread has ended after {counts:?}");
}

#[test]
fn writing_into_a_file_beside_is_noise() {
    let data = EventKind::Modify(ModifyKind::Data(notify::event::DataChange::Any));
    let event = |kind, path: &str| Event::new(kind).add_path(path.into());
    let mut targets = Targets::default();
    targets.add(Path::new("/etc/c.yaml"));
    assert!(is_noise(&event(data, "/etc/access.log"), &targets));
    assert!(!is_noise(&event(data, "/etc/c.yaml"), &targets));
    // An overflow of the queue names no file.
    assert!(!is_noise(&Event::new(data), &targets));
    let made = EventKind::Create(notify::event::CreateKind::File);
    assert!(!is_noise(&event(made, "/etc/d.yaml"), &targets));
    let opened = EventKind::Access(notify::event::AccessKind::Any);
    assert!(is_noise(&event(opened, "/etc/c.yaml"), &targets));
}

#[test]
fn a_file_behind_a_link_is_written_in_place() {
    let watched = Watched::new(&["c.yaml"], |dir| {
        fs::create_dir(dir.join("real")).unwrap();
        fs::write(dir.join("real/c.yaml"), "1").unwrap();
        symlink("real/c.yaml", dir.join("c.yaml")).unwrap();
    });
    for text in ["2", "3"] {
        watched.check("written behind the link", |dir| {
            fs::write(dir.join("real/c.yaml"), text).unwrap();
        });
    }
}
