// All that the page says, in English and Chinese.

const EN = {
  tagline: 'Cut people out of video, in this browser',
  welcome: 'Cut people out of video, right here',
  private: 'The network runs in this browser. No picture leaves your machine.',
  camera: 'Camera',
  open: 'Video file…',
  sample: 'Sample',
  pause: 'Pause',
  play: 'Play',
  record: 'Record',
  stop: 'Stop recording',
  saved: name => `Save ${name}`,
  rate: 'frames/s',
  network: 'network',
  whole: 'total',
  picture: 'picture',
  ms: value => `${value} ms`,
  show: 'Show',
  white: 'White',
  green: 'Green',
  transparent: 'Transparent',
  blur: 'Blur',
  image: 'Image…',
  video: 'Video…',
  alpha: 'Alpha',
  foreground: 'Foreground',
  memory: 'What the network remembers',
  source: 'Source',
  which: 'Which camera',
  quality: 'Picture and engine',
  size: 'Longer side',
  original: 'as the source',
  ratio: 'Downsample ratio',
  automatic: 'automatic',
  backend: 'Runs on',
  webgpu: 'WebGPU · ONNX Runtime',
  webgl: 'WebGL · TensorFlow.js',
  wasm: 'WebAssembly · ONNX Runtime',
  loading: 'Loading the network…',
  ready: (name, threads) => `${name}${threads ? `, ${threads} threads` : ''}; its output was checked.`,
  canvas: 'The video with the chosen background',
  measure: 'How fast is this machine?',
  measuring: 'This runs every engine at two sizes, at ratio 1. It takes a minute, or several without a GPU.',
  start: 'Measure',
  engine: 'Engine',
  fails: 'does not run',
  dark: 'Dark',
  light: 'Light',
  noCamera: 'There is no camera. Connect one, or open a video file.',
  denied: 'Access to the camera was denied. Allow it next to the address, or open a video file.',
  busy: 'The camera cannot be read. Close other programs that use it, or open a video file.',
  unreadable: name => `This browser cannot play ${name}. Convert it to MP4 (H.264) or WebM.`,
  noImage: name => `This browser cannot show ${name}. Use a JPEG, PNG or WebP picture.`,
  choose: 'Choose a file for the background.',
  noEngine: why => `The network does not run here: ${why}. Choose another engine, or use a newer browser.`,
  noRecorder: 'This browser cannot record WebM. Use a current Chrome, Edge or Firefox.',
  tooSmall: 'The ratio leaves less than 16 pixels. Use a larger ratio or size.',
  wholeVideo: 'The whole video',
  kind: 'Save as',
  format_webm: 'WebM, transparent',
  format_mp4: behind => `MP4, over: ${behind}`,
  format_png: 'PNG pictures, transparent, in a zip',
  about_webm: 'Every frame and the sound. Plays on web pages in Chrome, Edge and Firefox.',
  about_mp4: 'Every frame and the sound, over the background chosen under “Show”. Plays everywhere.',
  about_png: 'Every frame as a picture, without sound. For editors.',
  closer: 'Look closer where people are',
  saveAll: 'Save video…',
  cancel: 'Cancel',
  progress: 'Progress of the video',
  framesDone: (frames, percent, left) => `${frames} frames, ${percent}%${left && `, about ${left} left`}`,
  seconds: n => `${n} seconds`,
  minutes: n => n === 1 ? 'a minute' : `${n} minutes`,
  hours: n => `${n} hours`,
  savingNow: name => `Saving ${name}. This page must stay open.`,
  savedAll: (name, frames, silent, short) => `${name} is saved, with ${frames} frames`
    + (silent ? ' and without sound.' : '.')
    + (short ? ' It ends early: the rest of the video is damaged.' : ''),
  cancelling: 'Cancelling…',
  cancelled: 'Cancelled. No file was left behind.',
  notSaved: name => `${name} could not be saved.`,
  noPicture: name => `${name} has no picture. Choose a file with a video.`,
  noSample: 'The sample cannot be loaded. Connect to the network, or open a video file.',
  nothingOpen: 'Nothing is open. Choose a camera or a video file.',
  noStorage: 'This browser cannot keep files. Leave its private mode, or use a current Chrome, Edge or Firefox.',
  noEncoder: format => `This browser cannot write ${format === 'mp4' ? 'MP4 (H.264)' : 'WebM (VP9)'} of this size. Choose another kind of file.`,
  full: 'The disk is full. Delete files, or choose another disk.',
  broken: why => `The video could not be saved: ${why}. Part of the file may be damaged.`,
};

const ZH = {
  tagline: '在浏览器里把人从视频中抠出来',
  welcome: '就在这里，把人从视频中抠出来',
  private: '网络在本浏览器中运行，任何画面都不会离开您的电脑。',
  camera: '摄像头',
  open: '视频文件…',
  sample: '示例',
  pause: '暂停',
  play: '播放',
  record: '录制',
  stop: '停止录制',
  saved: name => `保存 ${name}`,
  rate: '帧/秒',
  network: '网络',
  whole: '总计',
  picture: '画面',
  ms: value => `${value} 毫秒`,
  show: '显示',
  white: '白色',
  green: '绿色',
  transparent: '透明',
  blur: '虚化',
  image: '图片…',
  video: '视频…',
  alpha: 'Alpha 遮罩',
  foreground: '前景',
  memory: '网络的记忆',
  source: '来源',
  which: '哪个摄像头',
  quality: '画面与引擎',
  size: '长边',
  original: '与来源相同',
  ratio: '下采样比例',
  automatic: '自动',
  backend: '运行于',
  webgpu: 'WebGPU · ONNX Runtime',
  webgl: 'WebGL · TensorFlow.js',
  wasm: 'WebAssembly · ONNX Runtime',
  loading: '正在加载网络…',
  ready: (name, threads) => `${name}${threads ? `，${threads} 个线程` : ''}；输出已核对。`,
  canvas: '带有所选背景的视频',
  measure: '这台电脑有多快？',
  measuring: '以比例 1 在两种尺寸下运行每个引擎，约需一分钟；没有 GPU 时需要好几分钟。',
  start: '测量',
  engine: '引擎',
  fails: '无法运行',
  dark: '深色',
  light: '浅色',
  noCamera: '没有找到摄像头。请连接一个，或打开视频文件。',
  denied: '摄像头的访问被拒绝。请在地址栏旁允许访问，或打开视频文件。',
  busy: '无法读取摄像头。请关闭正在使用它的程序，或打开视频文件。',
  unreadable: name => `本浏览器无法播放 ${name}。请转换为 MP4（H.264）或 WebM。`,
  noImage: name => `本浏览器无法显示 ${name}。请使用 JPEG、PNG 或 WebP 图片。`,
  choose: '请选择背景文件。',
  noEngine: why => `网络无法在此运行：${why}。请选择其他引擎，或使用更新的浏览器。`,
  noRecorder: '本浏览器无法录制 WebM。请使用新版 Chrome、Edge 或 Firefox。',
  tooSmall: '该比例剩下不足 16 像素。请增大比例或尺寸。',
  wholeVideo: '整个视频',
  kind: '保存为',
  format_webm: 'WebM，透明',
  format_mp4: behind => `MP4，背景：${behind}`,
  format_png: 'PNG 图片，透明，打包为 zip',
  about_webm: '包含每一帧和声音。可在 Chrome、Edge 和 Firefox 的网页中播放。',
  about_mp4: '包含每一帧和声音，背景为“显示”中所选。到处都能播放。',
  about_png: '每一帧一张图片，没有声音。供剪辑软件使用。',
  closer: '把人所在的部分看得更仔细',
  saveAll: '保存视频…',
  cancel: '取消',
  progress: '视频的完成进度',
  framesDone: (frames, percent, left) => `${frames} 帧，${percent}%${left && `，大约还需 ${left}`}`,
  seconds: n => `${n} 秒`,
  minutes: n => `${n} 分钟`,
  hours: n => `${n} 小时`,
  savingNow: name => `正在保存 ${name}，请不要关闭本页。`,
  savedAll: (name, frames, silent, short) => `已保存 ${name}，共 ${frames} 帧${silent ? '，没有声音' : ''}。`
    + (short ? '视频提前结束：其余部分已损坏。' : ''),
  cancelling: '正在取消…',
  cancelled: '已取消，没有留下文件。',
  notSaved: name => `无法保存 ${name}。`,
  noPicture: name => `${name} 中没有画面。请选择含有视频的文件。`,
  noSample: '无法加载示例。请连接网络，或打开视频文件。',
  nothingOpen: '还没有打开任何内容。请选择摄像头或视频文件。',
  noStorage: '本浏览器无法保存文件。请退出无痕模式，或使用新版 Chrome、Edge 或 Firefox。',
  noEncoder: format => `本浏览器无法写入这种尺寸的 ${format === 'mp4' ? 'MP4（H.264）' : 'WebM（VP9）'}。请选择其他文件类型。`,
  full: '空间不足。请删除一些文件，或选择其他磁盘。',
  broken: why => `无法保存视频：${why}。文件可能有一部分已损坏。`,
};

const kept = localStorage.getItem('language') ?? navigator.language;
let language = kept.startsWith('zh') ? 'zh' : 'en';

/** A word or sentence in the language of the page. */
export function say(key, ...given) {
  const word = (language === 'zh' ? ZH : EN)[key];
  return typeof word === 'function' ? word(...given) : word;
}

/** Fill in all texts of the page. */
export function place() {
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
  for (const element of document.querySelectorAll('[data-word]')) {
    element.textContent = say(element.dataset.word);
  }
  const button = document.getElementById('language');
  button.textContent = language === 'zh' ? 'English' : '中文';
  button.lang = language === 'zh' ? 'en' : 'zh-CN';
}

/** Put a text in place; what says it already is not announced again. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Switch to the other language. */
export function change() {
  language = language === 'zh' ? 'en' : 'zh';
  localStorage.setItem('language', language);
  place();
}
