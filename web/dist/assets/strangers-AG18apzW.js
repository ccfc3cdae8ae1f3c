import{m as O,i as A,A as b,b as l}from"./icons-C4OZ1Tkm.js";import{i as G,f as V,P as z,g as X,d as N,e as B,C as P,c as K,r as m,a as Q}from"./page-BmFCszxH.js";import{W as Z,S as tt,d as et}from"./messages-CMAkC_i9.js";import{w as st}from"./talk-CIEF7Xoe.js";const it=120,at=1e3,ot=20;class nt extends Z{constructor(t){super(),this.options=t,this.state="waiting",this.#i=!1,this.#o=0,this.#n=[],this.#r=[],this.#a=Promise.resolve(),this.#s=1+Math.floor((t.random??Math.random)()*2**40),this.#l(!1)}#s;#t;#i;#o;#n;#r;#h;#c;#a;hear(t){return this.#a=this.#a.then(()=>this.#g(t)).catch(()=>{this.state!=="over"&&this.#e("failed")}),this.#a}end(){this.#e("over"),clearTimeout(this.#h),clearTimeout(this.#c),this.#t?.close(),this.#t=void 0}#e(t){this.state=t,this.changed()}#l(t){this.state!=="waiting"&&!t||(this.#o+=1,this.options.signal(JSON.stringify({hello:this.#s,answer:t})).catch(()=>{this.state!=="waiting"||this.#o>ot||(this.#c=setTimeout(()=>this.#l(t),at))}))}#d(t){this.options.signal(JSON.stringify(t)).catch(()=>{})}async#g(t){let e;try{e=JSON.parse(t)}catch{return}if(!(!G(e)||this.state==="over")){if(V(e.hello))return await this.#w(e.hello,e.answer===!0);if(typeof e.offer=="string"){const i=this.#u();await i.setRemoteDescription({type:"offer",sdp:e.offer}),await this.#p(i),await i.setLocalDescription(await i.createAnswer()),this.#d({answer:i.localDescription?.sdp})}else typeof e.answer=="string"?(await this.#t?.setRemoteDescription({type:"answer",sdp:e.answer}),this.#t&&await this.#p(this.#t)):Array.isArray(e.candidates)&&(this.#n.push(...e.candidates.slice(0,64)),this.#t?.remoteDescription&&await this.#p(this.#t))}}async#w(t,e){if(e||this.#l(!0),this.state!=="waiting"||t===this.#s)return;clearTimeout(this.#c),this.#i=this.#s>t;const i=this.#u();this.#i&&await this.#f(i)}async#f(t){await t.setLocalDescription(await t.createOffer()),this.#d({offer:t.localDescription?.sdp})}async#p(t){for(const e of this.#n.splice(0))await t.addIceCandidate(e).catch(()=>{})}#u(){if(this.#t)return this.#t;const t=this.options.peer();this.#t=t;const{local:e}=this.options;for(const i of e?.getTracks()??[])t.addTrack(i,e);return t.ontrack=({streams:i,track:r})=>{this.remote=i[0]??new MediaStream([r]),this.changed()},t.onicecandidate=({candidate:i})=>{i&&(this.#r.push(i.toJSON()),this.#h??=setTimeout(()=>{this.#h=void 0,this.#d({candidates:this.#r.splice(0)})},it))},t.onconnectionstatechange=()=>{t.connectionState==="connected"&&this.#e("connected"),t.connectionState==="failed"&&(this.#e("failed"),this.#i&&(t.restartIce(),this.#f(t).catch(()=>{})))},this.#e("connecting"),t}}var rt=Object.defineProperty,ht=Object.getOwnPropertyDescriptor,q=s=>{throw TypeError(s)},v=(s,t,e,i)=>{for(var r=i>1?void 0:i?ht(t,e):t,y=s.length-1,C;y>=0;y--)(C=s[y])&&(r=(i?C(t,e,r):C(r))||r);return i&&r&&rt(t,e,r),r},x=(s,t,e)=>t.has(s)||q("Cannot "+e),a=(s,t,e)=>(x(s,t,"read from private field"),e?e.call(s):t.get(s)),u=(s,t,e)=>t.has(s)?q("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(s):t.set(s,e),c=(s,t,e,i)=>(x(s,t,"write to private field"),t.set(s,e),e),n=(s,t,e)=>(x(s,t,"access private method"),e),g,$,h,d,p,w,S,o,I,Y,H,_,E,W,R,k,T,M,L,j,J,U,F,D;const mt=()=>document.createElement("t-strangers"),ct=8,lt=300,dt=1e4;function pt(s){const t=s.split(/[,\n]/).map(e=>e.trim().toLowerCase().slice(0,32));return[...new Set(t.filter(Boolean))].slice(0,ct)}let f=class extends z{constructor(){super(...arguments),u(this,o),this.step="choose",this.pool="text",this.error="",this.why="",this.shared="",this.quiet=!1,this.dark=!1,u(this,g,[]),u(this,$,0),u(this,h),u(this,d),u(this,p),u(this,w),u(this,S,[])}disconnectedCallback(){super.disconnectedCallback(),n(this,o,M).call(this)}willUpdate(){this.look(a(this,h),a(this,p)),this.tickWhile(this.step==="waiting")}updated(s){for(const t of this.querySelectorAll("video")){const e=t.classList.contains("remote")?a(this,p)?.remote:a(this,w);t.srcObject!==(e??null)&&(t.srcObject=e??null)}s.has("step")&&this.step!=="talking"&&this.step!=="choose"&&this.querySelector("h1")?.focus()}render(){switch(this.step){case"choose":return n(this,o,I).call(this);case"waiting":return n(this,o,j).call(this);case"talking":return n(this,o,J).call(this);case"nobody":return n(this,o,D).call(this,"Nobody is here","Nobody else was looking just now.");case"over":return n(this,o,D).call(this,"It is over",this.why)}}};g=new WeakMap;$=new WeakMap;h=new WeakMap;d=new WeakMap;p=new WeakMap;w=new WeakMap;S=new WeakMap;o=new WeakSet;I=function(){return l`<main class="page narrow">
      <header class="brand">${O}<h1>Meet a stranger</h1></header>
      <p class="lead">Somebody you do not know, as nobody in particular. Nothing of it is kept.</p>
      <form class="card stack" @submit=${s=>{n(this,o,Y).call(this,s)}}>
        <fieldset class="choice">
          <legend>How do you want to talk?</legend>
          <label><input type="radio" name="pool" value="text" checked /> ${A.chat} Text</label>
          <label><input type="radio" name="pool" value="video" /> ${A.video} Video</label>
        </fieldset>
        <label
          >Interests <span class="soft">(if you like, with commas)</span>
          <input name="interests" autocomplete="off" placeholder="jazz, climbing, rust" value=${a(this,g).join(", ")}
        /></label>
        ${this.error?l`<p class="error" role="alert">${this.error}</p>`:b}
        <button class="primary">Find somebody</button>
      </form>
      <p class="hint">${A.lock} Do not say who you are or where you live. You can go on to the next at any time.</p>
      <footer>
        <nav aria-label="Other ways to talk"><a href="/">A room for two</a><a href="/chats">Messenger</a></nav>
      </footer>
    </main>`};Y=async function(s){s.preventDefault();const t=new FormData(s.target);this.pool=t.get("pool")==="video"?"video":"text",c(this,g,pt(String(t.get("interests")??""))),this.error="";try{const{pairing:i,iceServers:r}=await X();if(!i)throw new Error("This server does not bring strangers together.");c(this,S,r),this.pool==="video"&&c(this,w,await ft())}catch(i){this.error=i.message;return}n(this,o,E).call(this);const e=new tt({login:{url:B(),user:"~anon",password:N(32),device:`web-${N()}`,keep:!1},me:"",dial:et});c(this,h,e),e.on.online=()=>{n(this,o,H).call(this)},e.on.paired=(i,r)=>n(this,o,R).call(this,i,r),e.on.unpaired=()=>{this.step==="waiting"&&(this.step="nobody")},e.on.ended=i=>{i===a(this,d)&&n(this,o,k).call(this,st(i.ended?.why??"",i.ended?.mine??!1,"The stranger"))},e.on.signal=(i,r)=>{a(this,p)?.hear(r)},e.watch(()=>{e.connection.state==="refused"&&(n(this,o,M).call(this),this.error="The server lets nobody in to meet strangers just now. Try again later.",this.step="choose")}),e.start()};H=async function(){const[s,t]=[a(this,h),a(this,d)];if(s){if(this.step==="waiting")return await n(this,o,_).call(this);this.step!=="talking"||!t||s.ask("chat/~/info",{}).catch(e=>{e instanceof P&&e.code!=="unavailable"&&e.code!=="limit"&&a(this,d)===t&&n(this,o,k).call(this,"The connection was lost for too long.")})}};_=async function(){try{const s={interests:a(this,g),ttl:lt};await a(this,h)?.command(`pair/${this.pool}/next`,s)}catch(s){if(!(s instanceof P))return;s.retryAfter!==void 0?setTimeout(()=>{n(this,o,_).call(this)},s.retryAfter):n(this,o,k).call(this,s.message)}};E=function(){n(this,o,T).call(this),c(this,d,void 0),c(this,$,Date.now()),this.step="waiting",document.title="Looking for somebody – Tidings"};W=function(){n(this,o,E).call(this),a(this,h)?.connection.state==="online"&&n(this,o,_).call(this)};R=function(s,t){const e=a(this,h);if(e){for(const i of[...e.chats.values()])i!==s&&e.forget(i);c(this,d,s),this.shared=typeof t.interest=="string"?t.interest:"",this.pool==="video"&&c(this,p,new nt({peer:()=>new RTCPeerConnection({iceServers:a(this,S)}),signal:i=>e.command("chat/~/signal",i),local:a(this,w)})),this.step="talking"}};k=function(s){n(this,o,T).call(this),c(this,d,void 0),this.why=s,this.step="over",document.title="It is over – Tidings"};T=function(){a(this,p)?.end(),c(this,p,void 0)};M=function(){n(this,o,T).call(this);const s=a(this,h);c(this,h,void 0),c(this,d,void 0),s?.stop();for(const t of a(this,w)?.getTracks()??[])t.stop();c(this,w,void 0)};L=function(){n(this,o,M).call(this),this.step="choose",document.title="Tidings"};j=function(){const s=Date.now()-a(this,$),t=a(this,g).length>0&&s<dt;return l`<main class="page narrow waiting">
      <header class="brand">${O}<h1 tabindex="-1">Looking for somebody</h1></header>
      ${a(this,h)?l`<t-connection .session=${a(this,h)}></t-connection>`:b}
      ${this.pool==="video"?l`<video class="local preview" autoplay playsinline muted .muted=${!0} aria-label="Your own picture"></video>`:b}
      <p class="lead" role="status">
        ${t?l`Somebody who likes ${a(this,g).map(e=>l`<span class="chip">${e}</span> `)}`:a(this,g).length>0?"Nobody yet who likes the same: now anybody will do.":"Anybody will do."}
      </p>
      <p class="hint"><span class="pulse" aria-hidden="true"></span> Waiting for ${K(s)}</p>
      <p><button @click=${()=>n(this,o,L).call(this)}>Stop</button></p>
    </main>`};J=function(){const s=a(this,h),t=a(this,d);return!s||!t?l``:l`<t-talk
      class="screen ${this.pool==="video"?"with-stage":""}"
      .session=${s}
      .chat=${t}
      .name=${"Stranger"}
      .about=${this.shared?`You both like ${this.shared}`:"Say hello"}
      .stage=${a(this,p)?n(this,o,U).call(this,a(this,p)):b}
      .actions=${l`<button class="primary" @click=${()=>n(this,o,W).call(this)}>Next</button>
        <button class="end" @click=${()=>{n(this,o,F).call(this)}}>End</button>`}
    ></t-talk>`};U=function(s){const t={waiting:"Calling…",connecting:"Connecting the pictures…",connected:"",failed:"The pictures do not get through. You can go on writing.",over:""}[s.state],e=(i,r)=>{for(const y of a(this,w)?.getTracks()??[])y.kind===i&&(y.enabled=!r)};return l`<section class="stage" aria-label="Video">
      <video class="remote" autoplay playsinline aria-label="The stranger’s picture"></video>
      <video class="local" autoplay playsinline muted .muted=${!0} aria-label="Your own picture"></video>
      <p class="said" role="status">${t}</p>
      <div class="controls">
        <button
          aria-pressed=${this.quiet}
          @click=${()=>{this.quiet=!this.quiet,e("audio",this.quiet)}}
        >
          ${this.quiet?"Sound is off":"Mute"}
        </button>
        <button
          aria-pressed=${this.dark}
          @click=${()=>{this.dark=!this.dark,e("video",this.dark)}}
        >
          ${this.dark?"Camera is off":"Hide me"}
        </button>
      </div>
    </section>`};F=async function(){const[s,t]=[a(this,h),a(this,d)];s&&t&&await s.end(t).catch(()=>{}),n(this,o,k).call(this,"You ended the chat.")};D=function(s,t){return l`<main class="page narrow">
      <header class="brand">${O}<h1 tabindex="-1">${s}</h1></header>
      <p class="lead" role="status">${t}</p>
      <div class="actions">
        <button class="primary" @click=${()=>n(this,o,W).call(this)}>Find somebody else</button>
        <button @click=${()=>n(this,o,L).call(this)}>Stop</button>
      </div>
    </main>`};v([m()],f.prototype,"step",2);v([m()],f.prototype,"pool",2);v([m()],f.prototype,"error",2);v([m()],f.prototype,"why",2);v([m()],f.prototype,"shared",2);v([m()],f.prototype,"quiet",2);v([m()],f.prototype,"dark",2);f=v([Q("t-strangers")],f);async function ft(){if(!navigator.mediaDevices)throw new Error("Video needs a page on https, or on this machine itself.");try{return await navigator.mediaDevices.getUserMedia({audio:!0,video:{width:{ideal:640},height:{ideal:480}}})}catch{throw new Error("There is no camera, or the page may not use it. Allow it in the browser, or choose text.")}}export{f as StrangersPage,pt as interestsOf,mt as open};
