//! Settings, recent files and what was kept of each trace, as JSON in the user's data folder. Losing them
//! is no reason to fail: errors are logged for developers and forgotten.

use crate::keys::Keys;
use crate::session::{self, Session};
use crate::theme::{PaletteChoice, ThemeChoice};
use llmtrace_analysis::DEFAULT_CACHE_BYTES;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Most recent files that are remembered.
const MAX_RECENT: usize = 10;

/// MiB of decoded op spans that are kept when the user does not say.
const CACHE_MIB: u32 = (DEFAULT_CACHE_BYTES >> 20) as u32;

/// What is remembered between runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Light, dark or as the system says.
    pub theme: ThemeChoice,
    /// Files opened before, the last one first.
    pub recent: Vec<PathBuf>,
    /// Size of the window in points, when it does not fill the screen.
    pub window: Option<[f32; 2]>,
    /// Whether the window fills the screen.
    pub maximized: bool,
    /// MiB of decoded op spans to keep.
    pub cache_mib: u32,
    /// Size of everything, in percent.
    pub scale_percent: u32,
    /// Whether things move at once instead of gliding.
    pub reduced_motion: bool,
    /// Colours of operators.
    pub palette: PaletteChoice,
    /// Keys that the user chose.
    pub keys: Keys,
}

impl Default for Settings {
    fn default() -> Self {
        let (theme, recent) = (ThemeChoice::default(), Vec::new());
        let (window, maximized) = (None, false);
        let (scale_percent, reduced_motion) = (100, false);
        let (palette, keys) = Default::default();
        Self {
            theme,
            recent,
            window,
            maximized,
            cache_mib: CACHE_MIB,
            scale_percent,
            reduced_motion,
            palette,
            keys,
        }
    }
}

impl Settings {
    /// Bytes of decoded op spans to keep: as many as a picture needs, at least.
    pub fn cache_bytes(&self) -> usize {
        (self.cache_mib.max(64) as usize) << 20
    }

    /// Puts a file first.
    pub fn add_recent(&mut self, path: &Path) {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.recent.retain(|known| *known != path);
        self.recent.insert(0, path);
        self.recent.truncate(MAX_RECENT);
    }
}

/// Where settings are kept; nowhere in tests and screenshots.
#[derive(Clone, Debug, Default)]
pub struct Store {
    path: Option<PathBuf>,
}

impl Store {
    /// The user's own.
    pub fn of_user() -> Self {
        let path = directories::ProjectDirs::from("", "", "llmtrace")
            .map(|folders| folders.data_dir().join("viewer.json"));
        Self { path }
    }

    /// A given file.
    pub fn at(path: PathBuf) -> Self {
        Self { path: Some(path) }
    }

    /// What was kept of a trace.
    pub fn load_session(&self, trace: &Path) -> Session {
        self.sessions().map(|folder| session::load(&folder, trace)).unwrap_or_default()
    }

    /// Keeps marks, lanes and colours of a trace.
    pub fn save_session(&self, trace: &Path, session: &Session) {
        if let Some(folder) = self.sessions() {
            session::save(&folder, trace, session);
        }
    }

    fn sessions(&self) -> Option<PathBuf> {
        Some(self.path.as_ref()?.parent()?.join("sessions"))
    }

    /// Reads the settings.
    pub fn load(&self) -> Settings {
        let bytes = self.path.as_ref().and_then(|path| std::fs::read(path).ok());
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Takes over files that other windows have opened since; each window has its own copy of the
    /// settings.
    pub fn refresh_recent(&self, settings: &mut Settings) {
        if self.path.as_ref().is_some_and(|path| path.exists()) {
            settings.recent = self.load().recent;
        }
    }

    /// Writes them.
    pub fn save(&self, settings: &Settings) {
        let Some(path) = &self.path else { return };
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let whole = path.with_extension("json.new");
            std::fs::write(&whole, serde_json::to_vec_pretty(settings)?)?;
            std::fs::rename(&whole, path)
        };
        if let Err(error) = write() {
            log::debug!("settings not saved: {error}: {}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_files_are_unique_and_bounded() {
        let mut settings = Settings::default();
        for number in 0..30 {
            settings.add_recent(Path::new(&format!("/traces/{}", number % 15)));
        }
        assert_eq!(settings.recent.len(), MAX_RECENT);
        assert_eq!(settings.recent.first().unwrap(), Path::new("/traces/14"));
    }

    #[test]
    fn two_windows_remember_each_others_files() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path().join("viewer.json"));
        let (mut one, mut other) = (store.load(), store.load());
        for (window, name) in [(&mut one, "/a"), (&mut other, "/b")] {
            store.refresh_recent(window);
            window.add_recent(Path::new(name));
            store.save(window);
        }
        // The first window is closed last.
        store.refresh_recent(&mut one);
        store.save(&one);
        assert_eq!(store.load().recent, [Path::new("/b"), Path::new("/a")]);
    }

    #[test]
    fn settings_survive_a_restart_and_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/viewer.json");
        let store = Store::at(path.clone());
        assert_eq!(store.load(), Settings::default());
        let mut settings = Settings { theme: ThemeChoice::Dark, ..Settings::default() };
        settings.add_recent(Path::new("/a"));
        store.save(&settings);
        assert_eq!(store.load(), settings);
        std::fs::write(&path, "{ not json").unwrap();
        assert_eq!(store.load(), Settings::default());
        std::fs::write(&path, r#"{"theme":"light","from_the_future":1}"#).unwrap();
        assert_eq!(store.load().theme, ThemeChoice::Light);
    }
}
