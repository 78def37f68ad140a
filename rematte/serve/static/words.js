// What the page says, in each language. Messages of the converter stay English.

const WORDS = {
  en: {
    tagline: "Cut people out of video, on this machine",
    other: "中文",
    drop: "Drop videos here, or choose files",
    stays: "They stay on this machine.",
    offline: "The server does not answer. Is rematte serve running? Trying again…",
    jobs: "Videos",
    cancel: "Cancel",
    remove: "Remove",
    comparison: "The video before and after",
    before: "Before",
    after: "After",
    slider: "How much of before is shown",
    play: "Play",
    pause: "Pause",
    setup: "Settings",
    again: "Convert again with other settings",
    previous: "The result of the conversion before:",
    earlier: "Earlier results",
    detail: "Detail",
    detailHint: "The first frame at three sizes of the coarse pass. Larger is slower and finer; full bodies in the distance need it.",
    details: ["Fast", "Balanced", "Fine"],
    outputs: "What to make",
    clear: "Transparent video",
    format: "Format of the transparent video",
    mp4: "MP4 over a background",
    alpha: "Alpha matte, MP4",
    background: "Background of the MP4",
    colour: "Colour",
    tint: "Which colour",
    blur: "The room, blurred",
    image: "Image",
    chooseImage: "Choose an image",
    start: "Start",
    states: { ready: "Ready", queued: "Waiting", running: "Running", done: "Done", failed: "Failed", cancelled: "Cancelled" },
    files: { mov: "Transparent .mov", webm: "Transparent .webm", mp4: ".mp4 over background", alpha: "Alpha .mp4" },
    download: "Download",
    checking: "Looking at it…",
    tooLarge: (limit) => `Too large: at most ${limit} GB (--upload-limit).`,
    lost: "The connection was lost.",
    facts: (job) => `${job.info.width}×${job.info.height}, ${Number(job.info.rate.toFixed(2))} frames/s${job.info.frames ? `, ${(job.info.frames / job.info.rate).toFixed(1)} s` : ""}`,
    waiting: "Waits for its turn",
    beginning: "Getting ready…",
    finishing: "Finishing…",
    frames: (done, all) => `${done}${all ? ` of ${all}` : ""} frames`,
    left: (seconds) => seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.round(seconds / 60)} min left`,
    noPreview: "No preview",
    sure: (name) => `Remove ${name} and all that was made of it?`,
    nothing: "Choose at least one thing to make.",
    needImage: "Choose an image for the background.",
  },
  zh: {
    tagline: "在本机上把人物从视频中抠出",
    other: "English",
    drop: "把视频拖到这里，或选择文件",
    stays: "视频不会离开这台电脑。",
    offline: "服务器没有响应。rematte serve 还在运行吗？正在重试……",
    jobs: "视频",
    cancel: "取消",
    remove: "删除",
    comparison: "处理前后的视频",
    before: "处理前",
    after: "处理后",
    slider: "显示处理前画面的比例",
    play: "播放",
    pause: "暂停",
    setup: "设置",
    again: "换一种设置重新转换",
    previous: "上一次转换的结果：",
    earlier: "更早的结果",
    detail: "精细度",
    detailHint: "第一帧在三种粗略尺寸下的效果。尺寸越大越慢、越精细；远处的全身人物需要较大的尺寸。",
    details: ["快速", "均衡", "精细"],
    outputs: "输出内容",
    clear: "透明视频",
    format: "透明视频的格式",
    mp4: "带背景的 MP4",
    alpha: "Alpha 遮罩 MP4",
    background: "MP4 的背景",
    colour: "纯色",
    tint: "选择颜色",
    blur: "模糊的原背景",
    image: "图片",
    chooseImage: "选择图片",
    start: "开始",
    states: { ready: "就绪", queued: "排队中", running: "进行中", done: "完成", failed: "失败", cancelled: "已取消" },
    files: { mov: "透明 .mov", webm: "透明 .webm", mp4: "带背景 .mp4", alpha: "Alpha .mp4" },
    download: "下载",
    checking: "正在检查……",
    tooLarge: (limit) => `文件太大：最多 ${limit} GB（--upload-limit）。`,
    lost: "连接中断。",
    facts: (job) => `${job.info.width}×${job.info.height}，${Number(job.info.rate.toFixed(2))} 帧/秒${job.info.frames ? `，${(job.info.frames / job.info.rate).toFixed(1)} 秒` : ""}`,
    waiting: "等待轮到它",
    beginning: "正在准备……",
    finishing: "正在收尾……",
    frames: (done, all) => `${done}${all ? ` / ${all}` : ""} 帧`,
    left: (seconds) => seconds < 90 ? `大约还需 ${Math.ceil(seconds)} 秒` : `大约还需 ${Math.round(seconds / 60)} 分钟`,
    noPreview: "无法预览",
    sure: (name) => `删除 ${name} 以及由它生成的所有文件?`,
    nothing: "请至少选择一种输出。",
    needImage: "请为背景选择一张图片。",
  },
};

const STORE = "rematte-language";
let language = localStorage.getItem(STORE) ?? (navigator.language.startsWith("zh") ? "zh" : "en");
if (!(language in WORDS)) language = "en";

/** The words of the language that was chosen. */
export const words = () => WORDS[language];

/** Go to the other language. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem(STORE, language);
}

/** Fill in all that an element and those below it have to say. */
export function translate(root) {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of root.querySelectorAll("[data-word]")) {
    element.textContent = words()[element.dataset.word];
  }
  for (const element of root.querySelectorAll("[data-word-label]")) {
    element.setAttribute("aria-label", words()[element.dataset.wordLabel]);
  }
}
