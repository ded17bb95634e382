// Files go straight into the visitor's folder, with their paths; the page then asks what was found.
(() => {
  const AT_ONCE = 4;

  async function below(entry) {
    if (entry.isFile) {
      const file = await new Promise((take, fail) => entry.file(take, fail));
      return [[entry.fullPath.replace(/^\//, ""), file]];
    }
    const reader = entry.createReader(), found = [];
    for (;;) {  // a hundred at a time
      const some = await new Promise((take, fail) => reader.readEntries(take, fail));
      if (!some.length) return found;
      for (const one of some) found.push(...await below(one));
    }
  }

  async function dropped(transfer) {
    const items = [...transfer.items].filter((item) => item.kind === "file");
    const entries = items.map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry());
    const files = [...transfer.files].map((file) => [file.name, file]);
    if (!entries.length || entries.some((entry) => !entry)) return files;
    const found = [];
    for (const entry of entries) found.push(...await below(entry));
    return found;
  }

  async function send(drop, files) {
    if (!files.length || drop.dataset.busy) return;
    drop.dataset.busy = "1";
    const status = drop.querySelector(".hu-sent"), waiting = [...files], failed = [];
    const bytes = files.reduce((sum, [, file]) => sum + file.size, 0) || 1;
    let done = 0, sent = 0;
    const worker = async () => {
      for (let next; (next = waiting.shift()); ) {
        const [path, file] = next;
        const to = `pictures/${drop.dataset.key}?name=${encodeURIComponent(path)}`;
        try {
          const answer = await fetch(to, { method: "PUT", body: file });
          if (!answer.ok) failed.push(`${path}: ${await answer.text()}`);
        } catch (error) {
          failed.push(`${path}: it could not be sent (${error.message})`);
        }
        done += 1;
        sent += file.size;
        status.textContent = `Sent ${done} of ${files.length} files, ${Math.round((100 * sent) / bytes)} %`;
      }
    };
    status.textContent = `Sending ${files.length} files`;
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    delete drop.dataset.busy;
    if (failed.length) status.textContent = `Not sent: ${failed.slice(0, 5).join("; ")}` +
      (failed.length > 5 ? `; and ${failed.length - 5} more` : "");
    if (failed.length < files.length) document.querySelector("#hu-arrived").click();
  }

  const zone = (event) => event.target.closest && event.target.closest(".hu-drop");
  document.addEventListener("dragover", (event) => {
    event.preventDefault();  // a picture that misses the field would replace the page
    const drop = zone(event);
    document.querySelectorAll(".hu-drop").forEach((one) => one.classList.toggle("hu-over", one === drop));
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    const drop = zone(event);
    document.querySelectorAll(".hu-over").forEach((one) => one.classList.remove("hu-over"));
    if (drop) await send(drop, await dropped(event.dataTransfer));
  });
  document.addEventListener("change", async (event) => {
    const drop = zone(event);
    if (!drop || event.target.type !== "file") return;
    const files = [...event.target.files].map((file) => [file.webkitRelativePath || file.name, file]);
    await send(drop, files);
    event.target.value = "";
  });
  document.addEventListener("input", (event) => {
    const compare = event.target.closest && event.target.closest(".hu-compare");
    if (compare) compare.style.setProperty("--at", `${event.target.value}%`);
  });
})();
