import{m as E,A as C,b as i,w as Q}from"./icons-I7-K48Xo.js";import{P as Y,j as N,C as H,l as J,i as D,r as v,a as K}from"./page-ISBS-S02.js";import{c as T}from"./confirm-nwEIxxpg.js";import{b as x}from"./files-Bv8nI5bI.js";import"./watched-B41rlUUT.js";var U=Object.defineProperty,X=Object.getOwnPropertyDescriptor,F=t=>{throw TypeError(t)},f=(t,e,s,r)=>{for(var a=r>1?void 0:r?X(e,s):e,l=t.length-1,d;l>=0;l--)(d=t[l])&&(a=(r?d(e,s,a):d(a))||a);return r&&a&&U(e,s,a),a},O=(t,e,s)=>e.has(t)||F("Cannot "+s),b=(t,e,s)=>(O(t,e,"read from private field"),e.get(t)),k=(t,e,s)=>e.has(t)?F("Cannot add the same private member more than once"):e instanceof WeakSet?e.add(t):e.set(t,s),L=(t,e,s,r)=>(O(t,e,"write to private field"),e.set(t,s),s),n=(t,e,s)=>(O(t,e,"access private method"),s),y,g,o,w,W,j,q,B,I,R,V,P,z;const ct=()=>document.createElement("t-admin"),Z=2e3,p=new Intl.NumberFormat,$=t=>`${p.format(t)}/s`,tt=[{name:"Connections",unit:t=>p.format(t),of:[["connections","now"]]},{name:"Messages",unit:$,of:[["publishes_in","in"],["publishes_out","out"]]},{name:"Bytes",unit:t=>`${x(t)}/s`,of:[["bytes_in","in"],["bytes_out","out"]]},{name:"Syncs to disk",unit:$,of:[["syncs","now"]]},{name:"Queued messages",unit:t=>p.format(t),of:[["queued","now"]]},{name:"Memory",unit:x,of:[["memory","now"]]}],c=t=>typeof t=="number"?t:0,M=t=>Array.isArray(t)?t.filter(D):[],A=t=>D(t)?t:{};function et(t,e,s=100,r=30){const a=s/Math.max(1,t.length-1),l=Math.max(1,e);return t.map((d,h)=>`${(h*a).toFixed(1)},${(r-d/l*(r-2)-1).toFixed(1)}`).join(" ")}let u=class extends Y{constructor(){super(...arguments),k(this,o),this.error="",this.locked=!1,this.wanted="",this.said="",k(this,y),k(this,g)}connectedCallback(){super.connectedCallback(),document.title="Operator – Tidings",n(this,o,w).call(this)}disconnectedCallback(){super.disconnectedCallback(),clearTimeout(b(this,g))}render(){if(this.locked)return n(this,o,W).call(this);const{stats:t}=this;return i`<main class="page wide">
      <header class="brand">${E}<h1>Operator</h1></header>
      ${this.error?i`<p class="error" role="alert">${this.error}</p>`:C}
      ${t?n(this,o,q).call(this,t):this.error?C:i`<p class="lead" role="status">Asking the server…</p>`}
    </main>`}};y=new WeakMap;g=new WeakMap;o=new WeakSet;w=async function(){clearTimeout(b(this,g));try{document.hidden||(this.stats=A(await N("/api/stats",void 0,b(this,y)))),[this.error,this.locked]=["",!1]}catch(t){if(this.error=t.message,this.locked=t instanceof H&&(t.status===401||t.status===403),this.locked)return}this.isConnected&&L(this,g,setTimeout(()=>{n(this,o,w).call(this)},Z))};W=function(){return i`<main class="page narrow">
      <header class="brand">${E}<h1>Operator</h1></header>
      <p class="lead">This page is for who runs the server.</p>
      <form class="card stack" @submit=${t=>{n(this,o,j).call(this,t)}}>
        <label>Name <input name="user" required autocomplete="username" autocapitalize="none" /></label>
        <label>Password <input name="password" type="password" autocomplete="current-password" /></label>
        <p class="error" role="alert">${this.error}</p>
        <button class="primary">Log in</button>
      </form>
    </main>`};j=async function(t){t.preventDefault();const e=new FormData(t.target);try{const{token:s}=await J(String(e.get("user")),String(e.get("password")));L(this,y,s),await n(this,o,w).call(this)}catch(s){this.error=s.message}};q=function(t){const e=A(t.chat),s=D(e.delivery_ms)?e.delivery_ms:void 0,r=c(e.seconds)||60;return i`<p class="soft">
        Version ${String(t.version)}, up for ${st(c(t.uptime_seconds))}${t.draining?", draining":""}
      </p>
      <div class="plots">${tt.map(a=>n(this,o,B).call(this,a,M(t.samples)))}</div>
      <div class="tables">
        ${_("Chat, in the last minute",[["Messages",$(S(c(e.entries)/r))],["Delivered",$(S(c(e.delivered)/r))],["Read",$(S(c(e.read)/r))]])}
        ${_("From sent to delivered",s?["p50","p90","p99","max"].map(a=>[a,`${p.format(c(s[a]))} ms`]):[],"Nothing was delivered in the last minute.")}
        ${_("Busiest chats",M(e.top_chats).map(a=>[String(a.chat),p.format(c(a.entries))]),"Nothing was said in the last minute.")}
        ${_("Slow clients",M(t.slow_clients).map(a=>[`${String(a.user)} / ${String(a.client_id)}`,`${x(c(a.bytes))} for ${p.format(c(a.stuck_ms))} ms`]),"Nobody is slow.")}
      </div>
      ${n(this,o,I).call(this)} ${n(this,o,z).call(this,A(t.counters))}`};B=function({name:t,unit:e,of:s},r){const a=s.map(([h])=>r.map(m=>c(m[h]))),l=Math.max(0,...a.flat()),d=s.map(([,h],m)=>{const G=e(a[m]?.at(-1)??0);return i`<span class="now line-${m}">${G}${s.length>1?i` <small>${h}</small>`:C}</span>`});return i`<section class="card plot" aria-label=${t}>
      <h2>${t}</h2>
      <p>${d}</p>
      <svg viewBox="0 0 100 30" preserveAspectRatio="none" role="img" aria-label=${`${t} in the last minutes, at most ${e(l)}`}>
        ${a.map((h,m)=>Q`<polyline class="line-${m}" points=${et(h,l)} />`)}
      </svg>
      <p class="soft">at most ${e(l)}</p>
    </section>`};I=function(){return i`<section class="card stack tight" aria-label="Actions">
      <h2>Actions</h2>
      <form class="field" @submit=${t=>{n(this,o,R).call(this,t)}}>
        <label>Log somebody out of all devices <input name="user" required autocomplete="off" autocapitalize="none" /></label>
        <button>Log out</button>
      </form>
      <div><button class="danger" @click=${()=>{n(this,o,V).call(this)}}>Drain and stop the server</button></div>
      <p role="status">${this.said}</p>
    </section>`};R=async function(t){t.preventDefault();const e=t.target,s=String(new FormData(e).get("user")).trim();await T({title:`Log ${s} out?`,text:"All devices are disconnected and have to log in again.",yes:"Log out",danger:!0})&&(await n(this,o,P).call(this,"/api/admin/logout",{user:s},`${s} is logged out.`),e.reset())};V=async function(){await T({title:"Drain the server?",text:"It lets nobody in any more, lets everybody go in order, and ends.",yes:"Drain",danger:!0})&&await n(this,o,P).call(this,"/api/admin/drain",{},"The server drains.")};P=async function(t,e,s){try{await N(t,e,b(this,y)),this.said=s}catch(r){this.said=r.message}};z=function(t){const e=Object.entries(t).filter(([s])=>s.includes(this.wanted.trim()));return i`<details class="card">
      <summary>Everything that is counted</summary>
      <label>Only names with <input type="search" autocomplete="off" @input=${s=>this.wanted=s.target.value} /></label>
      <table>
        <caption class="hidden">Counters</caption>
        <thead><tr><th scope="col">Name</th><th scope="col">Value</th></tr></thead>
        <tbody>
          ${e.map(([s,r])=>i`<tr><th scope="row">${s.replace(/^tidings_/,"")}</th><td>${p.format(c(r))}</td></tr>`)}
        </tbody>
      </table>
    </details>`};f([v()],u.prototype,"stats",2);f([v()],u.prototype,"error",2);f([v()],u.prototype,"locked",2);f([v()],u.prototype,"wanted",2);f([v()],u.prototype,"said",2);u=f([K("t-admin")],u);function S(t){return t<10?Math.round(t*10)/10:Math.round(t)}function st(t){const[e,s,r]=[Math.floor(t/86400),Math.floor(t/3600)%24,Math.floor(t/60)%60];return e>0?`${e} d ${s} h`:s>0?`${s} h ${r} min`:`${r} min`}function _(t,e,s=""){return i`<section class="card" aria-label=${t}>
    <h2>${t}</h2>
    ${e.length===0?i`<p class="soft">${s}</p>`:i`<dl>${e.map(([r,a])=>i`<div><dt>${r}</dt><dd>${a}</dd></div>`)}</dl>`}
  </section>`}export{u as AdminPage,ct as open,et as points};
