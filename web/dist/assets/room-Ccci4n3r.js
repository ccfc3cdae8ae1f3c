import{D,A as $,b as h,m as _,i as O}from"./icons-C4OZ1Tkm.js";import{P as W,c as q,b as A,t as U,d as x,e as M,r as p,a as I}from"./page-Bp9j0Soo.js";import{S as R,T as H,d as L,w as z,k as B}from"./talk-COl5QQqE.js";import{a as G,k as K,f as N}from"./seat-Bgahqisy.js";function b({title:e,text:t,yes:s,no:r="Cancel",danger:o=!1}){const a=document.createElement("dialog");return a.setAttribute("aria-labelledby","question"),D(h`<form method="dialog">
      <h2 id="question">${e}</h2>
      ${t?h`<p>${t}</p>`:$}
      <div class="actions">
        <button value="no" autofocus>${r}</button>
        <button value="yes" class="primary ${o?"danger":""}">${s}</button>
      </div>
    </form>`,a),document.body.append(a),a.showModal(),new Promise(f=>{a.addEventListener("close",()=>{a.remove(),f(a.returnValue==="yes")})})}var V=Object.defineProperty,F=Object.getOwnPropertyDescriptor,g=e=>{throw TypeError(e)},d=(e,t,s,r)=>{for(var o=r>1?void 0:r?F(t,s):t,a=e.length-1,f;a>=0;a--)(f=e[a])&&(o=(r?f(t,s,o):f(o))||o);return r&&o&&V(t,s,o),o},k=(e,t,s)=>t.has(e)||g("Cannot "+s),l=(e,t,s)=>(k(e,t,"read from private field"),s?s.call(e):t.get(e)),y=(e,t,s)=>t.has(e)?g("Cannot add the same private member more than once"):t instanceof WeakSet?t.add(e):t.set(e,s),i=(e,t,s)=>(k(e,t,"access private method"),s),u,m,n,C,S,T,w,E,v,P;const j=()=>document.createElement("t-room");let c=class extends W{constructor(){super(...arguments),y(this,n),this.error="",this.busy=!1,this.waitUntil=0,y(this,u,`~${location.pathname.split("/")[2]??""}`),y(this,m,J())}connectedCallback(){super.connectedCallback();const e=G(l(this,u));e&&i(this,n,w).call(this,e)}disconnectedCallback(){super.disconnectedCallback(),this.session?.stop()}render(){if(this.look(this.session),this.ended!==void 0)return i(this,n,P).call(this);const{session:e,chat:t,seat:s}=this;return!e||!t||!s?i(this,n,C).call(this):h`<t-talk
      class="screen"
      .session=${e}
      .chat=${t}
      .name=${s.other.name}
      .actions=${h`<button class="end" @click=${()=>{i(this,n,E).call(this)}}>End chat</button>`}
    ></t-talk>`}updated(){this.ended!==void 0&&document.activeElement===document.body&&this.querySelector("h1")?.focus()}};u=new WeakMap;m=new WeakMap;n=new WeakSet;C=function(){const e=this.waitUntil-Date.now();return this.tickWhile(e>0),h`<main class="page narrow">
      <header class="brand">${_}<h1>${l(this,m)?`Hello ${l(this,m)}`:"Hello"}</h1></header>
      <p class="lead">Type the code you were given, and the chat opens.</p>
      <form class="card stack" @submit=${t=>{i(this,n,T).call(this,t)}}>
        <label
          >Code
          <input
            name="code"
            class="code"
            required
            autofocus
            autocomplete="off"
            autocapitalize="characters"
            spellcheck="false"
            placeholder="ABCD-2345"
            aria-invalid=${this.error!==""}
            aria-describedby="error"
            @input=${t=>i(this,n,S).call(this,t)}
        /></label>
        <p id="error" class="error" role="alert">
          ${this.error}${e>0?h` <span aria-live="off">Wait ${q(e)}.</span>`:$}
        </p>
        <button class="primary" ?disabled=${this.busy||e>0}>${this.busy?"Opening…":"Open the chat"}</button>
      </form>
      <p class="hint">${O.lock} What is said here is in memory only, and gone when either of you ends it.</p>
    </main>`};S=function(e){const t=e.target;t.selectionStart===t.value.length&&(t.value=A(t.value)),this.error=""};T=async function(e){e.preventDefault();const t=this.querySelector("[name=code]");[this.busy,this.error]=[!0,""];try{const s=await U(l(this,u),t?.value??"");K(l(this,u),s),i(this,n,w).call(this,s)}catch(s){const{code:r,message:o,retryAfter:a}=s;this.error=r==="not_opened"?"This code does not open the chat. Look at each letter; or the chat may have ended.":a!==void 0?"Too many wrong codes.":o,a!==void 0&&(this.waitUntil=Date.now()+a),t?.select()}this.busy=!1};w=function(e){const t=new R({login:{url:M(),user:l(this,u),password:e.token,device:`web-${x()}`,keep:!1},me:e.user,peer:e.other.user,dial:L,store:new H(sessionStorage,`outbox:${e.room}`)}),s=t.chat(e.room);t.watchPresence(e.other.user),t.on.ended=()=>i(this,n,v).call(this,s),t.watch(()=>{t.connection.state==="refused"&&!s.ended&&(s.ended={why:"closed",mine:!1},i(this,n,v).call(this,s))}),[this.seat,this.session,this.chat]=[e,t,s],t.start()};E=async function(){const{session:e,chat:t,seat:s}=this;if(!(!e||!t||!s||!await b({title:"End the chat?",text:`It ends for ${s.other.name} too, and everything said in it is destroyed.`,yes:"End chat",danger:!0})))try{await e.end(t)}catch{await b({title:"Not ended",text:"There is no connection. Try again when there is one.",yes:"OK",no:"Close"})}};v=function(e){const{why:t,mine:s}=e.ended??{why:"closed",mine:!1};this.ended=z(t,s,this.seat?.other.name??"The other"),N(l(this,u)),B(e.name,""),this.session?.stop(),document.title="The chat has ended – Tidings"};P=function(){return h`<main class="page narrow ended">
      <header class="brand">${_}<h1 tabindex="-1">The chat has ended</h1></header>
      <p class="lead" role="status">${this.ended} Everything said in it is destroyed: nobody can read it any more.</p>
      <p><a class="button primary" href="/">Make a new room</a></p>
    </main>`};d([p()],c.prototype,"seat",2);d([p()],c.prototype,"session",2);d([p()],c.prototype,"chat",2);d([p()],c.prototype,"error",2);d([p()],c.prototype,"busy",2);d([p()],c.prototype,"waitUntil",2);d([p()],c.prototype,"ended",2);c=d([I("t-room")],c);function J(){try{return decodeURIComponent(location.hash.slice(1)).trim().slice(0,40)}catch{return""}}export{c as RoomPage,j as open};
